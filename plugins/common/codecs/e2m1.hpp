// e2m1 (FP4): s ee m, bias 1. The eight magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6; the code is the
// index, bit 3 the sign, 8 is -0; no NaN, no infinity. Encoding: nearest, ties to even (0.25→0,
// 0.75→1, 1.25→1, 1.75→2, 2.5→2, 3.5→4, 5→4), the sign kept, saturating at 6. NaN has no code: the
// caller marks its group (E8M0 255); here it becomes 7. Packed: two codes a byte, the low nibble is
// the even column. Source: numeric-definitions, section 1; oracle: numerics.json (e2m1,
// rounding.e2m1).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/codecs/minifloat.hpp"

namespace loadstone::common {

inline constexpr float kE2m1Max = 6.0f;

LOADSTONE_INLINE uint8_t e2m1_encode(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t a = bits & 0x7fffffffu;
  const uint32_t top = std::bit_cast<uint32_t>(kE2m1Max);
  const uint32_t code = minifloat_round<1, 1>(a < top ? a : top);
  return static_cast<uint8_t>(code | (bits >> 31) << 3);
}

LOADSTONE_INLINE float e2m1_decode(uint8_t code) {
  const uint32_t bits = minifloat_expand<1, 1>(code & 7u);
  return std::bit_cast<float>(bits | static_cast<uint32_t>(code & 8u) << 28);
}

/// e2m1_decode(e2m1_encode(x)) without the detour over a code; NaN stays NaN.
LOADSTONE_INLINE float e2m1_round(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t a = bits & 0x7fffffffu;
  const uint32_t top = std::bit_cast<uint32_t>(kE2m1Max);
  const uint32_t magnitude = minifloat_nearest<1, 1>(a < top ? a : top);
  return std::bit_cast<float>((a > 0x7f800000u ? 0x7fc00000u : magnitude) | (bits & 0x80000000u));
}

/// The e2m1 code of an e4m3 code that holds an e2m1 value, or 255.
LOADSTONE_INLINE uint8_t e2m1_from_e4m3(uint8_t e4m3) {
  // Values 0, 0.5, 1, 1.5, 2, 3, 4, 6 are the e4m3 codes 0x00, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x48,
  // 0x4c: beyond 0.5 four codes a step.
  const uint32_t c = e4m3 & 0x7fu;
  const uint32_t code = c == 0 ? 0u : (c == 0x30u ? 1u : (c - 0x30u) / 4u);
  const bool exact = c == 0 || c == 0x30u || (c >= 0x38u && c <= 0x4cu && c % 4u == 0);
  return exact ? static_cast<uint8_t>(code | (e4m3 & 0x80u) >> 4) : static_cast<uint8_t>(255);
}

/// `n` values, one code a byte.
void e2m1_encode(const float* in, uint8_t* out, size_t n, Cpu cpu = cpu_in_use());
void e2m1_decode(const uint8_t* in, float* out, size_t n, Cpu cpu = cpu_in_use());
/// `n` codes, an even number, from or to n/2 bytes.
void e2m1_pack(const uint8_t* codes, uint8_t* packed, size_t n, Cpu cpu = cpu_in_use());
void e2m1_unpack(const uint8_t* packed, uint8_t* codes, size_t n, Cpu cpu = cpu_in_use());
/// `n` values, an even number, of n/2 packed bytes.
void e2m1_decode_packed(const uint8_t* packed, float* out, size_t n, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
