// What AutoRound, GPTQ and AWQ checkpoints declare, as fields and scopes of `autoround`.
#pragma once

#include <loadstone/plugin.hpp>

namespace loadstone::autoround {

/// Reads config.json's quantization_config, quantization_config.json or quantize_config.json.
/// Errors: LS_INVALID_CHECKPOINT and LS_UNSUPPORTED, naming the key.
void read_declaration(const sdk::Node& node, sdk::Declaration& out);

}  // namespace loadstone::autoround
