// bf16 (the upper half of a float32) and float16 (s eeeee mmmmmmmmmm, bias 15), to and from
// float32. Widening is exact. Narrowing: nearest, ties to even; overflow of float16 is Inf; NaN
// keeps its sign and upper payload bits and is made quiet. Source: numeric-definitions, section 1;
// oracle: numerics.json (rounding.bf16, rounding.f16).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/codecs/minifloat.hpp"

namespace loadstone::common {

LOADSTONE_INLINE float bf16_decode(uint16_t h) {
  return std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
}

LOADSTONE_INLINE uint16_t bf16_encode(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<uint16_t>((nan ? (bits | 0x00400000u) : rounded) >> 16);
}

LOADSTONE_INLINE float f16_decode(uint16_t h) {
  const uint32_t c = h & 0x7fffu;
  const uint32_t special = 0x7f800000u | (c & 0x3ffu) << 13 | (c > 0x7c00u ? 0x00400000u : 0u);
  const uint32_t bits = c >= 0x7c00u ? special : minifloat_expand<10, 15>(c);
  return std::bit_cast<float>(bits | static_cast<uint32_t>(h & 0x8000u) << 16);
}

LOADSTONE_INLINE uint16_t f16_encode(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t a = bits & 0x7fffffffu;
  constexpr uint32_t kOverflow = 0x477ff000u;  // 65520: the tie above 65504 rounds away
  const uint32_t finite = minifloat_round<10, 15>(a < kOverflow ? a : 0u);
  const uint32_t nan = 0x7e00u | ((a >> 13) & 0x3ffu);
  const uint32_t large = a > 0x7f800000u ? nan : 0x7c00u;
  return static_cast<uint16_t>((a >= kOverflow ? large : finite) | (bits >> 31) << 15);
}

void bf16_decode(const uint16_t* in, float* out, size_t n, Cpu cpu = cpu_in_use());
void bf16_encode(const float* in, uint16_t* out, size_t n, Cpu cpu = cpu_in_use());
void f16_decode(const uint16_t* in, float* out, size_t n, Cpu cpu = cpu_in_use());
void f16_encode(const float* in, uint16_t* out, size_t n, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
