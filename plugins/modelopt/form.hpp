// One layer of a ModelOpt checkpoint: which shared layer reads it, and how.
#pragma once

#include "common/dialect/method.hpp"
#include "modelopt/config.hpp"

namespace loadstone::modelopt {

using common::dialect::Reader;

/// How the layer is read, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for
/// weights of another algorithm than declared.
std::optional<Reader> reader_of(const Config& config, const sdk::Layer& layer,
                                common::NoForm& instead);

}  // namespace loadstone::modelopt
