// quant_model_description*.json: a type for every tensor.
#pragma once

#include "msmodelslim/config.hpp"

namespace loadstone::msmodelslim {

/// Declares the modules whose weights have a type as `quant_description`, and keeps those of FLOAT
/// weights.
/// Keys that are no tensors say who wrote the file. Errors (thrown): LS_UNSUPPORTED for a type that
/// the tool writes and that isn't read here, LS_INVALID_CHECKPOINT for any other.
void read_description(const sdk::Node& node, sdk::Declaration& out);

/// quantization_config of config.json, as this plugin saves it: one type for all layers.
void read_dictionary(const sdk::Node& node, sdk::Declaration& out);

/// What save writes.
std::string declaration(const Config& config);

}  // namespace loadstone::msmodelslim
