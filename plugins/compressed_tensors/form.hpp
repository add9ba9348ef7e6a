// One layer of a compressed-tensors checkpoint: which shared layer reads it, and how.
#pragma once

#include "common/dialect/method.hpp"
#include "compressed_tensors/config.hpp"

namespace loadstone::compressed_tensors {

struct Reading {
  common::dialect::Reader reader;
  std::string note;  // where the activation is left as it is though the scheme rounds it: why
};

/// How the layer is read, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for
/// quantized weights that no scheme names or of another format than their scheme's.
std::optional<Reading> reading_of(const Config& config, const sdk::Layer& layer,
                                  common::NoForm& instead);

}  // namespace loadstone::compressed_tensors
