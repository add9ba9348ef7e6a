#include "common/numerics/dual.hpp"

#include <bit>
#include <limits>

#include "common/codecs/half.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/mx.hpp"

namespace loadstone::common {
namespace {

constexpr float kSixth = 1.0f / 6.0f;  // 0x3e2aaaab

LOADSTONE_INLINE void divide_bf16_body(const float* __restrict x, float d, float* __restrict t,
                                       size_t n) {
  for (size_t i = 0; i < n; ++i) t[i] = bf16_decode(bf16_encode(x[i] / d));
}
LOADSTONE_INLINE void divide_f16_body(const float* __restrict x, float d, float* __restrict t,
                                      size_t n) {
  for (size_t i = 0; i < n; ++i) t[i] = f16_decode(f16_encode(x[i] / d));
}
LOADSTONE_INLINE void scale_body(const float* __restrict in, float d, float* __restrict out,
                                 size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = in[i] * d;
}

LOADSTONE_KERNEL(divide_bf16, (const float* x, float d, float* t, size_t n), (x, d, t, n))
LOADSTONE_KERNEL(divide_f16, (const float* x, float d, float* t, size_t n), (x, d, t, n))
LOADSTONE_KERNEL(scale, (const float* in, float d, float* out, size_t n), (in, d, out, n))

/// One 512-group's t; returns d.
float normalize(DualDtype dtype, const float* x, float* t, Cpu cpu) {
  const float amax = max_magnitude(x, kDualGroup, cpu);
  const float d = dual_scale(amax);
  if (d == 0.0f) {
    // A zero keeps its sign, anything else in so small a group becomes +0.
    for (size_t i = 0; i < kDualGroup; ++i) t[i] = x[i] == 0.0f ? x[i] : 0.0f;
  } else if (dtype == DualDtype::bf16) {
    divide_bf16_for(cpu)(x, d, t, kDualGroup);
  } else {
    divide_f16_for(cpu)(x, d, t, kDualGroup);
  }
  return d;
}

}  // namespace

float dual_scale(float amax) {
  if (!is_finite(amax)) return std::numeric_limits<float>::quiet_NaN();
  const float d = amax * kSixth;
  return d < std::numeric_limits<float>::min() ? 0.0f : d;
}

void dual_quantize(DualDtype dtype, const float* x, uint8_t* codes, uint8_t* scales, float* outer,
                   size_t n, Cpu cpu) {
  float t[kDualGroup];
  for (size_t begin = 0, g = 0; begin < n; begin += kDualGroup, ++g) {
    outer[g] = normalize(dtype, x + begin, t, cpu);
    mx_quantize(MxRule::ocp, MxElement::e2m1, t, codes + begin, scales + begin / kMxGroup,
                kDualGroup, cpu);
  }
}

void dual_dequantize(const uint8_t* codes, const uint8_t* scales, const float* outer, float* out,
                     size_t n, Cpu cpu) {
  float inner[kDualGroup];
  for (size_t begin = 0, g = 0; begin < n; begin += kDualGroup, ++g) {
    mx_dequantize(MxElement::e2m1, codes + begin, scales + begin / kMxGroup, inner, kDualGroup,
                  cpu);
    scale_for(cpu)(inner, outer[g], out + begin, kDualGroup);
  }
}

void dual_round(DualDtype dtype, const float* x, float* values, float* outer, size_t n, Cpu cpu) {
  float t[kDualGroup], relative[kDualGroup];
  for (size_t begin = 0, g = 0; begin < n; begin += kDualGroup, ++g) {
    outer[g] = normalize(dtype, x + begin, t, cpu);
    // mx_round's values are relative to the group's own largest byte; bring them to scale 1.
    const float own = mx_round(MxRule::ocp, MxElement::e2m1, t, relative, kDualGroup, cpu);
    scale_for(cpu)(relative, own, values + begin, kDualGroup);
  }
}

}  // namespace loadstone::common
