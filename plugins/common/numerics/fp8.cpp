#include "common/numerics/fp8.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

LOADSTONE_INLINE void encode_quotient_body(const float* __restrict x, float s,
                                           uint8_t* __restrict codes, size_t n) {
  for (size_t i = 0; i < n; ++i) codes[i] = e4m3_encode(x[i] / s);
}
LOADSTONE_INLINE void encode_product_body(const float* __restrict x, float f,
                                          uint8_t* __restrict codes, size_t n) {
  for (size_t i = 0; i < n; ++i) codes[i] = e4m3_encode(x[i] * f);
}
LOADSTONE_INLINE void round_quotient_body(const float* __restrict x, float s,
                                          float* __restrict values, size_t n) {
  for (size_t i = 0; i < n; ++i) values[i] = e4m3_round(x[i] / s);
}
LOADSTONE_INLINE void round_product_body(const float* __restrict x, float f,
                                         float* __restrict values, size_t n) {
  for (size_t i = 0; i < n; ++i) values[i] = e4m3_round(x[i] * f);
}
LOADSTONE_INLINE void dequantize_body(const uint8_t* __restrict codes, float s,
                                      float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e4m3_decode(codes[i]) * s;
}

LOADSTONE_KERNEL(encode_quotient, (const float* x, float s, uint8_t* q, size_t n), (x, s, q, n))
LOADSTONE_KERNEL(encode_product, (const float* x, float f, uint8_t* q, size_t n), (x, f, q, n))
LOADSTONE_KERNEL(round_quotient, (const float* x, float s, float* v, size_t n), (x, s, v, n))
LOADSTONE_KERNEL(round_product, (const float* x, float f, float* v, size_t n), (x, f, v, n))
LOADSTONE_KERNEL(dequantize, (const uint8_t* q, float s, float* v, size_t n), (q, s, v, n))

// Scales so small that their reciprocal overflows lie outside the contract (amax under 1e-30);
// division keeps them finite.
bool has_reciprocal(float scale) { return is_finite(1.0f / scale); }

// `at_least` without turning NaN into the bound.
float at_least(float value, float bound) { return value < bound ? bound : value; }

}  // namespace

float fp8_tensor_scale(float amax) {
  const float scale = amax / kFp8Max;
  return scale == 0.0f ? 1.0f : scale;
}
float fp8_row_scale(float amax) { return at_least(amax / kFp8Max, kFp8MinScale); }
float fp8_block_scale(float amax) { return at_least(amax, 1e-4f) / kFp8Max; }
float fp8_group_scale(float amax) { return at_least(amax, 1e-10f) / kFp8Max; }
float fp8_token_scale(float amax, const float* upper_bound) {
  const float cut = upper_bound != nullptr && amax > *upper_bound ? *upper_bound : amax;
  return fp8_row_scale(cut);
}

float fp8_quantize_row(const float* w, uint8_t* codes, size_t n, Cpu cpu) {
  const float scale = fp8_row_scale(max_magnitude(w, n, cpu));
  encode_quotient_for(cpu)(w, scale, codes, n);
  return scale;
}

void fp8_quantize_tensor(const float* w, float scale, float amax, uint8_t* codes, size_t n,
                         Cpu cpu) {
  if (amax == 0.0f) {
    std::memset(codes, 0, n);
  } else if (has_reciprocal(scale)) {
    encode_product_for(cpu)(w, 1.0f / scale, codes, n);
  } else {
    encode_quotient_for(cpu)(w, scale, codes, n);
  }
}

float fp8_quantize_block(const float* w, size_t rows, size_t columns, uint8_t* codes, size_t stride,
                         Cpu cpu) {
  const float scale = fp8_block_scale(max_magnitude(w, rows * columns, cpu));
  const float factor = 1.0f / scale;
  for (size_t r = 0; r < rows; ++r) {
    encode_product_for(cpu)(w + r * columns, factor, codes + r * stride, columns);
  }
  return scale;
}

void fp8_dequantize(const uint8_t* codes, float scale, float* out, size_t n, Cpu cpu) {
  dequantize_for(cpu)(codes, scale, out, n);
}

float fp8_token(const float* x, const float* upper_bound, float* values, size_t n, Cpu cpu) {
  const float amax = max_magnitude(x, n, cpu);
  const float scale = is_finite(amax) ? fp8_token_scale(amax, upper_bound) : kNan;
  round_quotient_for(cpu)(x, scale, values, n);
  return scale;
}

float fp8_tensor_row(const float* x, float amax, float* values, size_t n, Cpu cpu) {
  const float scale = is_finite(amax) ? fp8_tensor_scale(amax) : kNan;
  if (amax == 0.0f) {
    std::memset(values, 0, n * sizeof(float));
  } else if (has_reciprocal(scale)) {
    round_product_for(cpu)(x, 1.0f / scale, values, n);
  } else {
    round_quotient_for(cpu)(x, scale, values, n);
  }
  return scale;
}

float fp8_fixed_row(const float* x, float scale, float* values, size_t n, Cpu cpu) {
  const bool finite = is_finite(max_magnitude(x, n, cpu));
  if (has_reciprocal(scale)) {
    round_product_for(cpu)(x, 1.0f / scale, values, n);
  } else {
    round_quotient_for(cpu)(x, scale, values, n);
  }
  return finite ? scale : kNan;
}

void fp8_groups(const float* x, size_t group, float* values, float* scales, size_t n, Cpu cpu) {
  for (size_t begin = 0, g = 0; begin < n; begin += group, ++g) {
    const size_t count = std::min(group, n - begin);
    const float amax = max_magnitude(x + begin, count, cpu);
    scales[g] = is_finite(amax) ? fp8_group_scale(amax) : kNan;
    round_quotient_for(cpu)(x + begin, scales[g], values + begin, count);
  }
}

void fp8_rescale(const uint8_t* codes, float scale, float common, uint8_t* out, size_t n) {
  const float factor = 1.0f / common;
  for (size_t i = 0; i < n; ++i) {
    const float half = f16_decode(f16_encode(e4m3_decode(codes[i]) * scale));
    out[i] = e4m3_encode(half * factor);
  }
}

}  // namespace loadstone::common
