// ModelOpt's dictionary, of config.json or of hf_quant_config.json.
#pragma once

#include "modelopt/config.hpp"

namespace loadstone::modelopt {

/// Errors (thrown): LS_INVALID_CHECKPOINT for a missing algorithm and values of a wrong type.
void read_declaration(const sdk::Node& node, sdk::Declaration& out);

/// What save writes.
std::string declaration(const Config& config);

}  // namespace loadstone::modelopt
