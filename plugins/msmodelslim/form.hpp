// One layer of an msModelSlim checkpoint: which shared layer reads it, and how.
#pragma once

#include "common/dialect/method.hpp"
#include "msmodelslim/config.hpp"

namespace loadstone::msmodelslim {

/// How the layer is read, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for a
/// quantized weight without a type or of another type's dtype, LS_UNSUPPORTED for tensors of
/// layouts that aren't read.
std::optional<common::dialect::Reader> reader_of(const Config& config, const sdk::Layer& layer,
                                                 common::NoForm& instead);

}  // namespace loadstone::msmodelslim
