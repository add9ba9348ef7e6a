#include "common/numerics/nvfp4.hpp"

#include <algorithm>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"

namespace loadstone::common {
namespace {

constexpr float kSixth = 1.0f / 6.0f;  // 0x3e2aaaab

template <Nvfp4Order Order>
LOADSTONE_INLINE void dequantize_order(const uint8_t* __restrict packed,
                                       const uint8_t* __restrict scales, float global,
                                       float* __restrict out, size_t n, size_t group) {
  const float inverse = 1.0f / global;
  for (size_t begin = 0, g = 0; begin < n; begin += group, ++g) {
    const float sc = e4m3_decode(scales[g]);
    const float scale = Order == Nvfp4Order::multiplied ? sc * global : sc / global;
    const size_t end = std::min(n, begin + group);
    for (size_t i = begin; i < end; ++i) {
      const float q = e2m1_decode(static_cast<uint8_t>(packed[i / 2] >> (i % 2 * 4) & 15u));
      out[i] = Order == Nvfp4Order::reciprocal ? (q * inverse) * sc : q * scale;
    }
  }
}

LOADSTONE_INLINE void multiplied_body(const uint8_t* packed, const uint8_t* scales, float global,
                                      float* out, size_t n, size_t group) {
  dequantize_order<Nvfp4Order::multiplied>(packed, scales, global, out, n, group);
}
LOADSTONE_INLINE void divided_body(const uint8_t* packed, const uint8_t* scales, float global,
                                   float* out, size_t n, size_t group) {
  dequantize_order<Nvfp4Order::divided>(packed, scales, global, out, n, group);
}
LOADSTONE_INLINE void reciprocal_body(const uint8_t* packed, const uint8_t* scales, float global,
                                      float* out, size_t n, size_t group) {
  dequantize_order<Nvfp4Order::reciprocal>(packed, scales, global, out, n, group);
}

LOADSTONE_INLINE void decode_bf16_body(const uint8_t* __restrict packed,
                                       const uint8_t* __restrict scales, uint16_t* __restrict out,
                                       size_t n, size_t group) {
  for (size_t begin = 0, g = 0; begin < n; begin += group, ++g) {
    const float sc = e4m3_decode(scales[g]);
    const size_t end = std::min(n, begin + group);
    for (size_t i = begin; i < end; ++i) {
      const float q = e2m1_decode(static_cast<uint8_t>(packed[i / 2] >> (i % 2 * 4) & 15u));
      out[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(q * sc) >> 16);
    }
  }
}

/// The scale code of one group; 0x7f where a value isn't finite.
LOADSTONE_INLINE uint8_t group_scale(const float* __restrict x, float g, size_t n) {
  uint32_t top = 0;
  for (size_t i = 0; i < n; ++i) {
    top = std::max(top, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  }
  if (top >= 0x7f800000u) return 0x7f;
  return e4m3_encode(g * (std::bit_cast<float>(top) * kSixth));
}

LOADSTONE_INLINE float group_factor(float sc, float g) {
  const float step = sc * (1.0f / g);
  return step == 0.0f ? 0.0f : 1.0f / step;
}

LOADSTONE_INLINE void token_body(const float* __restrict x, float g, uint8_t* __restrict codes,
                                 uint8_t* __restrict scales, size_t n) {
  for (size_t begin = 0, s = 0; begin < n; begin += kNvfp4Group, ++s) {
    const size_t count = std::min(kNvfp4Group, n - begin);
    scales[s] = group_scale(x + begin, g, count);
    const float factor = group_factor(e4m3_decode(scales[s]), g);
    for (size_t i = begin; i < begin + count; ++i) codes[i] = e2m1_encode(x[i] * factor + 0.0f);
  }
}

LOADSTONE_INLINE void token_values_body(const float* __restrict x, float g,
                                        float* __restrict values, size_t n) {
  for (size_t begin = 0; begin < n; begin += kNvfp4Group) {
    const size_t count = std::min(kNvfp4Group, n - begin);
    const float sc = e4m3_decode(group_scale(x + begin, g, count));
    const float factor = group_factor(sc, g);
    for (size_t i = begin; i < begin + count; ++i)
      values[i] = e2m1_round(x[i] * factor + 0.0f) * sc;
  }
}

LOADSTONE_KERNEL(multiplied,
                 (const uint8_t* packed, const uint8_t* scales, float global, float* out, size_t n,
                  size_t group),
                 (packed, scales, global, out, n, group))
LOADSTONE_KERNEL(divided,
                 (const uint8_t* packed, const uint8_t* scales, float global, float* out, size_t n,
                  size_t group),
                 (packed, scales, global, out, n, group))
LOADSTONE_KERNEL(reciprocal,
                 (const uint8_t* packed, const uint8_t* scales, float global, float* out, size_t n,
                  size_t group),
                 (packed, scales, global, out, n, group))
LOADSTONE_KERNEL(decode_bf16,
                 (const uint8_t* packed, const uint8_t* scales, uint16_t* out, size_t n,
                  size_t group),
                 (packed, scales, out, n, group))
LOADSTONE_KERNEL(token, (const float* x, float g, uint8_t* codes, uint8_t* scales, size_t n),
                 (x, g, codes, scales, n))
LOADSTONE_KERNEL(token_values, (const float* x, float g, float* values, size_t n),
                 (x, g, values, n))

}  // namespace

void nvfp4_dequantize(Nvfp4Order order, const uint8_t* packed, const uint8_t* scales, float global,
                      float* out, size_t n, size_t group, Cpu cpu) {
  const auto kernel = order == Nvfp4Order::multiplied ? multiplied_for(cpu)
                      : order == Nvfp4Order::divided  ? divided_for(cpu)
                                                      : reciprocal_for(cpu);
  kernel(packed, scales, global, out, n, group);
}

void nvfp4_decode_bf16(const uint8_t* packed, const uint8_t* scales, uint16_t* out, size_t n,
                       size_t group, Cpu cpu) {
  decode_bf16_for(cpu)(packed, scales, out, n, group);
}

void nvfp4_token(const float* x, float g, uint8_t* codes, uint8_t* scales, size_t n, Cpu cpu) {
  token_for(cpu)(x, g, codes, scales, n);
}

void nvfp4_token_values(const float* x, float g, float* values, size_t n, Cpu cpu) {
  token_values_for(cpu)(x, g, values, n);
}

float nvfp4_multiplier(Nvfp4Order order, float global) {
  return order == Nvfp4Order::multiplied ? global : 1.0f / global;
}

}  // namespace loadstone::common
