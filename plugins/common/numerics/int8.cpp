#include "common/numerics/int8.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "common/kernel.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common {
namespace {

/// rne(v) cut to [-128, 127]. Adding 1.5·2^23 rounds to whole numbers in the float's low bits; a
/// NaN gives some code, without undefined behaviour.
LOADSTONE_INLINE int32_t round_and_cut(float v) {
  constexpr float kMagic = 12582912.0f;
  const float low = v < -1000.0f ? -1000.0f : v;
  const float cut = low > 1000.0f ? 1000.0f : low;
  const int32_t whole = std::bit_cast<int32_t>(cut + kMagic) - std::bit_cast<int32_t>(kMagic);
  const int32_t top = whole > 127 ? 127 : whole;
  return top < -128 ? -128 : top;
}

LOADSTONE_INLINE void quantize_body(const float* __restrict x, float factor,
                                    int8_t* __restrict codes, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<int8_t>(round_and_cut(x[i] * factor));
  }
}
LOADSTONE_INLINE void fixed_body(const float* __restrict x, float scale, float zero_point,
                                 int8_t* __restrict codes, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<int8_t>(round_and_cut(x[i] / scale + zero_point));
  }
}
LOADSTONE_INLINE void affine_body(const float* __restrict x, float factor, float offset,
                                  int8_t* __restrict codes, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<int8_t>(round_and_cut(x[i] * factor + offset));
  }
}
LOADSTONE_INLINE void dequantize_body(const int8_t* __restrict codes, float scale,
                                      float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale;
}

LOADSTONE_KERNEL(quantize, (const float* x, float f, int8_t* q, size_t n), (x, f, q, n))
LOADSTONE_KERNEL(fixed, (const float* x, float s, float z, int8_t* q, size_t n), (x, s, z, q, n))
LOADSTONE_KERNEL(affine, (const float* x, float f, float o, int8_t* q, size_t n), (x, f, o, q, n))
LOADSTONE_KERNEL(dequantize, (const int8_t* q, float s, float* out, size_t n), (q, s, out, n))

/// Codes of a row whose largest magnitude becomes `top`; its scale.
float quantize_to(float top, const float* x, int8_t* codes, size_t n, Cpu cpu) {
  const float amax = max_magnitude(x, n, cpu);
  if (!is_finite(amax)) {
    quantize_for(cpu)(x, 0.0f, codes, n);
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float factor = amax == 0.0f ? 0.0f : top / amax;
  if (is_finite(factor)) {
    quantize_for(cpu)(x, factor, codes, n);
  } else {  // amax under 4e-37 lies outside the contract; float64 holds the factor
    for (size_t i = 0; i < n; ++i) {
      const double whole = std::nearbyint(static_cast<double>(x[i]) * (double{top} / amax));
      codes[i] = static_cast<int8_t>(whole);
    }
  }
  return amax / top;
}

}  // namespace

float int8_scale(float amax) { return amax / 127.0f; }
float int8_factor(float amax) { return amax == 0.0f ? 0.0f : 127.0f / amax; }

float int8_quantize_row(const float* x, int8_t* codes, size_t n, Cpu cpu) {
  return quantize_to(127.0f, x, codes, n, cpu);
}

float int4_quantize_row(const float* x, int8_t* codes, size_t n, Cpu cpu) {
  return quantize_to(7.0f, x, codes, n, cpu);
}

void int8_quantize_fixed(const float* x, float scale, float zero_point, int8_t* codes, size_t n,
                         Cpu cpu) {
  fixed_for(cpu)(x, scale, zero_point, codes, n);
}

void int8_quantize_affine(const float* x, float factor, float offset, int8_t* codes, size_t n,
                          Cpu cpu) {
  affine_for(cpu)(x, factor, offset, codes, n);
}

void int8_dequantize(const int8_t* codes, float scale, float* out, size_t n, Cpu cpu) {
  dequantize_for(cpu)(codes, scale, out, n);
}

}  // namespace loadstone::common
