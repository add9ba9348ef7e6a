// N and K of matrices packed into words, which the words alone don't tell.
#pragma once

#include <utility>

#include "common/scaled/form.hpp"

namespace loadstone::common::scaled {

/// N and K as the tensor beside the weight says them. Errors (thrown): LS_INVALID_CHECKPOINT when
/// it is missing, of another dtype or shape, or holds what no matrix has.
std::pair<uint64_t, uint64_t> shape_of(const sdk::Layer& layer, size_t part, const Spec& spec,
                                       const sdk::Tensor& weight);

}  // namespace loadstone::common::scaled
