// One entry of config_groups: what its tensors are, and how its layers are multiplied.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace loadstone::compressed_tensors {

enum class Format { floats, integers, packed, nvfp4, mxfp4, mxfp8 };
enum class Strategy { tensor, channel, group, block, token };
enum class Activation {
  none,
  fp8_token,
  fp8_static,
  fp8_group,
  int8_token,
  int8_static,
  int4_token,
  nvfp4,
  mx_e2m1,
  mx_e4m3,
};

struct Scheme {
  std::string name;  // "group_0"
  std::vector<std::string> targets;
  bool quantizes = true;  // false: no weights, its layers are as they were
  Format format = Format::floats;
  Strategy strategy = Strategy::channel;  // of the weight's scales
  uint32_t bits = 8;
  bool symmetric = true;
  bool ordered = false;  // columns have groups of their own (weight_g_idx)
  uint64_t group_size = 0;
  uint64_t block_rows = 0, block_columns = 0;
  Activation activation = Activation::none;
};

using Json = nlohmann::ordered_json;

/// The schemes of `groups`, in its order. `format`: the checkpoint's, which a group without one of
/// its own has; "" when unknown. Errors (thrown): LS_INVALID_CONFIG for what isn't a scheme,
/// LS_UNSUPPORTED, with the reason, for one that nothing here computes; both name the key.
std::vector<Scheme> read_schemes(const Json& groups, const std::string& format);

/// A name of Format, or what stands in its place; nothing for formats of no quantized tensors.
/// Errors (thrown): LS_UNSUPPORTED.
std::optional<Format> read_format(const std::string& key, const std::string& name);

/// "pack-quantized".
const char* format_name(Format format);

}  // namespace loadstone::compressed_tensors
