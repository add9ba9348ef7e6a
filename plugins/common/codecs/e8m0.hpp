// e8m0: an 8-bit exponent. b = 0..254 is 2^(b-127) (b = 0: 2^-127, the float32 subnormal
// 0x00400000); 255 is NaN. Methods compute scale bytes from exponent bits (numerics/mx.hpp); there
// is no encoder. Source: numeric-definitions, section 1; oracle: numerics.json (e8m0).
#pragma once

#include <bit>
#include <cstdint>

#include "common/kernel.hpp"

namespace loadstone::common {

inline constexpr uint8_t kE8m0Nan = 255;

LOADSTONE_INLINE float e8m0_decode(uint8_t b) {
  const uint32_t power = b == 0 ? 0x00400000u : static_cast<uint32_t>(b) << 23;
  return std::bit_cast<float>(b == kE8m0Nan ? 0x7fc00000u : power);
}

/// 2^(127-b), the exact factor from values to codes, for b = 0..254.
LOADSTONE_INLINE float e8m0_inverse(uint8_t b) {
  const uint32_t power = b == 254 ? 0x00400000u : static_cast<uint32_t>(254 - b) << 23;
  return std::bit_cast<float>(b == kE8m0Nan ? 0x7fc00000u : power);
}

}  // namespace loadstone::common
