// The difference of two pictures as a picture.
#pragma once

#include "runtime/compare/metrics.hpp"

namespace loadstone::compare {

/// Largest |r - c| over the three channels of each pixel, 0 black over red and yellow to white at
/// `full` (1..255). The frames have equal sizes.
Frame heat_map(const Frame& reference, const Frame& candidate, uint32_t full);

/// The largest difference of any sample, at least 1: the scale to draw with.
uint32_t largest_difference(const Frame& reference, const Frame& candidate);

}  // namespace loadstone::compare
