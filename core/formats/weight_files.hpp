// Which files of a folder hold a component's tensors.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.hpp"
#include "formats/model_files.hpp"

namespace loadstone::formats {

/// What a folder offers. Exactly one of `index`, `file`, `several` is set, or none: no weights.
struct WeightFiles {
  std::string index;                 // "model.safetensors.index.json"
  std::string file;                  // the one weight file (safetensors, or a GGUF set's part)
  std::vector<std::string> several;  // files of unknown names side by side, each a component
  std::vector<std::string> pickles;  // files of other kinds, when nothing else is there
  std::vector<std::string> unread;   // weight files that the choice leaves alone
};

/// Chooses by names alone (sorted). An index is the law; then model.safetensors or
/// diffusion_pytorch_model.safetensors; then quant_model_weight*.safetensors; then the only weight
/// file. Errors: two indexes, both standard names, numbered shards without their index, a GGUF and
/// a safetensors file with nothing to choose by.
Result<WeightFiles> choose_weight_files(const std::string& folder,
                                        const std::vector<std::string>& names);

/// The total M of a name "x-N-of-M" + ending, or nullopt.
std::optional<uint64_t> shard_total(std::string_view name, std::string_view ending);

/// "x-00001-of-00003.safetensors": part of a set of more than one.
bool is_numbered_shard(const std::string& name);

}  // namespace loadstone::formats
