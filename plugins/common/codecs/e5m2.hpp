// e5m2: s eeeee mm, bias 15. e = 0: m·2^-16; else (1 + m/4)·2^(e-15). Largest 57344 (0x7B); 0x7C is
// Inf, 0x7D..0x7F are NaN: the upper byte of a float16.
// Encoding: nearest, ties to even, the sign kept, |x| > 57344 and Inf become 57344 (saturating),
// NaN becomes 0x7F with the sign.
// Source: numeric-definitions, section 1; oracle: numerics.json (e5m2, rounding.e5m2_sat).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/codecs/minifloat.hpp"

namespace loadstone::common {

inline constexpr float kE5m2Max = 57344.0f;

LOADSTONE_INLINE uint8_t e5m2_encode(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t a = bits & 0x7fffffffu;
  const uint32_t top = std::bit_cast<uint32_t>(kE5m2Max);
  const uint32_t code = minifloat_round<2, 15>(a < top ? a : top);
  return static_cast<uint8_t>((a > 0x7f800000u ? 0x7fu : code) | (bits >> 31) << 7);
}

LOADSTONE_INLINE float e5m2_decode(uint8_t code) {
  const uint32_t c = code & 0x7fu;
  const uint32_t special = c == 0x7cu ? 0x7f800000u : 0x7fc00000u;
  const uint32_t bits = c >= 0x7cu ? special : minifloat_expand<2, 15>(c);
  return std::bit_cast<float>(bits | static_cast<uint32_t>(code & 0x80u) << 24);
}

void e5m2_encode(const float* in, uint8_t* out, size_t n, Cpu cpu = cpu_in_use());
void e5m2_decode(const uint8_t* in, float* out, size_t n, Cpu cpu = cpu_in_use());
/// out = bf16 bits of the values: exact, NaN quiet.
void e5m2_decode_bf16(const uint8_t* in, uint16_t* out, size_t n, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
