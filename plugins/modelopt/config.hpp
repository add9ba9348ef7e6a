// What a ModelOpt configuration says: the algorithm of each layer, and the layers left out.
#pragma once

#include <loadstone/plugin.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace loadstone::modelopt {

enum class Algorithm {
  fp8,
  fp8_channel,
  fp8_block,
  nvfp4,
  nvfp4_weights,
  nvfp4_fp8,
  mxfp8,
  mxfp4,
  mxfp4_fp8,
  int8,
  int8_weights,
  int4_weights,
  int4_fp8,
  mixed,
};

/// The algorithm that `name` (any case) writes, or nothing.
std::optional<Algorithm> find_algorithm(const std::string& name);
/// All names, for errors.
std::string algorithm_names();

/// One layer's share of a mixed configuration.
struct Setting {
  Algorithm algorithm = Algorithm::fp8;
  int64_t group_size = 0;  // 0: as stored
  bool operator==(const Setting&) const = default;
};

struct Config {
  std::string algorithm_name;  // as configured; "": by the checkpoint's declaration, or nowhere
  Setting setting;
  std::map<std::string, Setting> layers;  // mixed: by module
  std::string layers_json;                // the same as it was written
  std::string kv_cache;
  bool serialized = false;
  bool dynamic = false;  // FP8 without an input scale is scaled as it comes
  std::vector<std::string> ignored_layers, excluded;

  /// The setting of a checkpoint module; nothing: kept. Mixed: the module itself, then the nearest
  /// module above it that is listed; then the same for its other spellings (model.language_model.x,
  /// language_model.model.x, model.x).
  std::optional<Setting> of(const std::string& module) const;
};

/// Errors (thrown): LS_INVALID_CONFIG naming the field.
Config configure(const sdk::Values& values);

/// A pattern of exclude_modules as the host's styles. A name is that module with all below it;
/// ModelOpt writes "name*" for the same. Stars at either end reach up to a dot, so that
/// "layers.1*" leaves layers.10 alone and "*proj*" is the component "proj", never a part of one.
struct Pattern {
  uint32_t style;
  std::string text;
};
std::vector<Pattern> patterns_of(const std::string& excluded);

/// The entry of `excluded` that leaves out the layer, by its own name or by those of all its parts,
/// or null. Errors (thrown): LS_INVALID_CONFIG when only some of its parts are named.
const char* excluded_by(const std::vector<std::string>& excluded, const sdk::Layer& layer);

/// Whether quantized_layers leaves the layer out. Errors (thrown): LS_INVALID_CONFIG when it lists
/// some of the parts only, or parts with different settings.
bool left_out(const Config& config, const sdk::Layer& layer);

}  // namespace loadstone::modelopt
