// Inside the products: a row of four-bit codes with a scale and a zero point a group, multiplied as
// it is. The sixteen weights that a group can have are made once, then looked up.
#pragma once

#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

/// Σ_k ((q[k] - zeros[g])·scales[g])·x[k], q unsigned, even column low; g = k / group, `group` a
/// multiple of 32 or at least k; the last group may be shorter. One rounding for the difference and
/// one for the product, float32 sums in a fixed order for each level (AVX-512, else scalar).
float dot_nibbles(const uint8_t* packed, const float* scales, const float* zeros, uint64_t group,
                  const float* x, uint64_t k, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
