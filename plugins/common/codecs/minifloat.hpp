// The arithmetic that every small binary float here shares: `M` mantissa bits, exponent bias `B`,
// subnormals at exponent field 0, sign on top. Branch-free so that a loop over it vectorizes.
// Source: numeric-definitions, section 1 (OCP 8-bit and MX formats).
#pragma once

#include <bit>
#include <cstdint>

#include "common/kernel.hpp"

namespace loadstone::common {

/// Code (without sign) of |x| rounded to nearest, ties to even, exponents unbounded above. `a` are
/// the bits of |x|, finite and at most a value whose exponent the caller allows.
template <int M, int B>
LOADSTONE_INLINE uint32_t minifloat_round(uint32_t a) {
  constexpr int kShift = 23 - M;
  // Normal: add half of the last kept bit (less one, plus the bit itself: ties to even) and cut.
  const uint32_t rounded = a + ((1u << (kShift - 1)) - 1) + ((a >> kShift) & 1u);
  const uint32_t normal = (rounded >> kShift) - (static_cast<uint32_t>(127 - B) << M);
  // Subnormal: adding 2^23 ulps makes the float adder round to whole ulps.
  constexpr uint32_t kMagic = static_cast<uint32_t>(127 + (1 - B) - M + 23) << 23;
  const float sum = std::bit_cast<float>(a) + std::bit_cast<float>(kMagic);
  const uint32_t subnormal = std::bit_cast<uint32_t>(sum) - kMagic;
  constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(128 - B) << 23;
  return a < kSmallestNormal ? subnormal : normal;
}

/// Bits of the float32 value of minifloat_round's code, without the detour over it.
template <int M, int B>
LOADSTONE_INLINE uint32_t minifloat_nearest(uint32_t a) {
  constexpr int kShift = 23 - M;
  const uint32_t rounded = a + ((1u << (kShift - 1)) - 1) + ((a >> kShift) & 1u);
  const uint32_t normal = rounded & ~((1u << kShift) - 1);
  constexpr uint32_t kMagic = static_cast<uint32_t>(127 + (1 - B) - M + 23) << 23;
  const float sum = std::bit_cast<float>(a) + std::bit_cast<float>(kMagic);
  const uint32_t subnormal = std::bit_cast<uint32_t>(sum - std::bit_cast<float>(kMagic));
  constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(128 - B) << 23;
  return a < kSmallestNormal ? subnormal : normal;
}

/// Bits of the float32 value of an unsigned code, all exponent fields taken as finite.
template <int M, int B>
LOADSTONE_INLINE uint32_t minifloat_expand(uint32_t code) {
  constexpr uint32_t kUlp = static_cast<uint32_t>(127 + (1 - B) - M) << 23;
  const float subnormal =
      static_cast<float>(static_cast<int32_t>(code)) * std::bit_cast<float>(kUlp);
  const uint32_t normal = (code << (23 - M)) + (static_cast<uint32_t>(127 - B) << 23);
  return code < (1u << M) ? std::bit_cast<uint32_t>(subnormal) : normal;
}

}  // namespace loadstone::common
