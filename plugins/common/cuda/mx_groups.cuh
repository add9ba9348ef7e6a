// Scale bytes and elements of MX groups, bit-equal to the scalar twins (common/numerics/mx.hpp).
// Private to kernels.
#pragma once

#include "common/cuda/types.cuh"
#include "common/numerics/mx.hpp"

namespace loadstone::common::cuda {

__device__ inline uint32_t exponent_of(float v) { return __float_as_uint(v) >> 23 & 0xffu; }
__device__ inline uint32_t fraction_of(float v) { return __float_as_uint(v) & 0x7fffffu; }

template <MxRule R, MxElement E>
__device__ inline uint32_t scale_byte(float amax) {
  if (exponent_of(amax) == 255) return 255;
  if constexpr (R == MxRule::ocp) {
    constexpr uint32_t kMaxExponent = E == MxElement::e4m3 ? 8 : 2;
    const uint32_t e = exponent_of(amax);
    return e > kMaxExponent ? e - kMaxExponent : 0;
  } else if constexpr (R == MxRule::uos) {
    const float p = amax * (1.0f / 7.25f);
    const uint32_t e = exponent_of(p);
    return e + (e > 0 && e < 254 && fraction_of(p) > 0 ? 1 : 0);
  } else {
    const float s = amax / 448.0f;
    const uint32_t e = exponent_of(s);
    if (e == 0) return fraction_of(s) > (1u << 22) ? 1 : 0;
    return min(e + (fraction_of(s) > 0 ? 1u : 0u), 254u);
  }
}

/// Nearest value of e2m1, ties to even, saturating; NaN stays NaN.
__device__ inline float e2m1_nearest(float x) {
  const uint32_t a = magnitude(x);
  if (a > 0x7f800000u) return x;
  const float v = fminf(__uint_as_float(a), 6.0f);
  // Adding 2^23 ulps of the value's binade (at least of [1, 2)) rounds to whole ulps.
  const float step = v < 2.0f ? 0.5f : v < 4.0f ? 1.0f : 2.0f;
  const float magic = step * 8388608.0f;
  return copysignf(v + magic - magic, x);
}

}  // namespace loadstone::common::cuda
