// e4m3fn: s eeee mmm, bias 7. e = 0: m·2^-9; else (1 + m/8)·2^(e-7). Largest 448 (0x7E); 0x7F and
// 0xFF are NaN; no infinity; 0x80 is -0.
// Encoding: nearest, ties to even, the sign kept (a small negative becomes -0), |x| > 448 and Inf
// become 448 (saturating), NaN becomes 0x7F with the sign.
// Source: numeric-definitions, section 1; oracle: numerics.json (e4m3fn, rounding.e4m3_sat).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/codecs/minifloat.hpp"

namespace loadstone::common {

inline constexpr float kE4m3Max = 448.0f;

// The scalar twins are the definition.

LOADSTONE_INLINE uint8_t e4m3_encode(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t a = bits & 0x7fffffffu;
  const uint32_t top = std::bit_cast<uint32_t>(kE4m3Max);
  const uint32_t code = minifloat_round<3, 7>(a < top ? a : top);
  return static_cast<uint8_t>((a > 0x7f800000u ? 0x7fu : code) | (bits >> 31) << 7);
}

LOADSTONE_INLINE float e4m3_decode(uint8_t code) {
  const uint32_t c = code & 0x7fu;
  const uint32_t bits = c == 0x7fu ? 0x7fc00000u : minifloat_expand<3, 7>(c);
  return std::bit_cast<float>(bits | static_cast<uint32_t>(code & 0x80u) << 24);
}

/// e4m3_decode(e4m3_encode(x)) without the detour over a byte.
LOADSTONE_INLINE float e4m3_round(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t a0 = bits & 0x7fffffffu;
  const uint32_t top = std::bit_cast<uint32_t>(kE4m3Max);
  const uint32_t magnitude = minifloat_nearest<3, 7>(a0 < top ? a0 : top);
  return std::bit_cast<float>((a0 > 0x7f800000u ? 0x7fc00000u : magnitude) | (bits & 0x80000000u));
}

/// `n` values each; no alignment needed, in and out don't overlap.
void e4m3_encode(const float* in, uint8_t* out, size_t n, Cpu cpu = cpu_in_use());
void e4m3_decode(const uint8_t* in, float* out, size_t n, Cpu cpu = cpu_in_use());
void e4m3_round(const float* in, float* out, size_t n, Cpu cpu = cpu_in_use());
/// out = bf16 bits of the values: exact, NaN quiet.
void e4m3_decode_bf16(const uint8_t* in, uint16_t* out, size_t n, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
