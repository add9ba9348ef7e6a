// The dictionary of config.json, and what save writes.
#pragma once

#include "compressed_tensors/config.hpp"

namespace loadstone::compressed_tensors {

/// Errors (thrown): LS_INVALID_CHECKPOINT for unknown keys and values of a wrong type;
/// LS_UNSUPPORTED, with the reason, for what nothing here computes (sparsity, transforms, formats,
/// strategies).
void read_declaration(const sdk::Node& node, sdk::Declaration& out);

std::string declaration(const Config& config);

}  // namespace loadstone::compressed_tensors
