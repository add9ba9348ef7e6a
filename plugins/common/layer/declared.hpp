// A checkpoint's own dictionary (quantization_config), read key by key.
#pragma once

#include <loadstone/plugin.hpp>
#include <span>
#include <string>
#include <vector>

namespace loadstone::common {

/// Declares what `node` says: keys named like `fields` are those fields; the lists ignored_layers
/// and, when that is empty, modules_to_not_convert become scopes to keep; `serialized`, a
/// yes-or-no field, is on whatever the dictionary says of it (that it stands beside the tensors
/// says so); keys that tell who wrote the file mean nothing. Errors (thrown): LS_INVALID_CHECKPOINT
/// for unknown keys and values of a wrong type.
void read_declared(const sdk::Node& node, std::span<const ls_field> fields, const char* serialized,
                   sdk::Declaration& out);

/// The scopes of an AutoRound dictionary: block_name_to_quantize (a text with commas, or a list)
/// and the layers that extra_config leaves at 16 bits or more. Its other keys are the caller's.
void read_autoround_scopes(const sdk::Node& node, sdk::Declaration& out);

/// A JSON list of texts.
std::string json_list(const std::vector<std::string>& texts);

}  // namespace loadstone::common
