#include "common/numerics/mx.hpp"

#include <algorithm>

#include "common/codecs/bf16_words.hpp"
#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common {
namespace {

constexpr float kUosFactor = 1.0f / 7.25f;  // 0x3e0d3dcb

LOADSTONE_INLINE uint32_t exponent_of(float x) {
  return (std::bit_cast<uint32_t>(x) >> 23) & 0xffu;
}
LOADSTONE_INLINE uint32_t fraction_of(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffu; }

template <MxRule Rule, MxElement Element>
LOADSTONE_INLINE uint8_t scale_byte(float amax) {
  if (exponent_of(amax) == 255) return kE8m0Nan;
  if constexpr (Rule == MxRule::ocp) {
    constexpr uint32_t kMaxExponent = Element == MxElement::e4m3 ? 8 : 2;
    const uint32_t e = exponent_of(amax);
    return static_cast<uint8_t>(e > kMaxExponent ? e - kMaxExponent : 0);
  } else if constexpr (Rule == MxRule::uos) {
    const float p = amax * kUosFactor;
    const uint32_t e = exponent_of(p);
    return static_cast<uint8_t>(e + (e > 0 && e < 254 && fraction_of(p) > 0 ? 1 : 0));
  } else {
    const float s = amax / kE4m3Max;
    const uint32_t e = exponent_of(s);
    if (e == 0) return fraction_of(s) > (1u << 22) ? 1 : 0;
    return static_cast<uint8_t>(std::min(e + (fraction_of(s) > 0 ? 1u : 0u), 254u));
  }
}

template <MxElement Element>
LOADSTONE_INLINE uint8_t encode(float x) {
  return Element == MxElement::e4m3 ? e4m3_encode(x) : e2m1_encode(x);
}
template <MxElement Element>
LOADSTONE_INLINE float decode(uint8_t code) {
  return Element == MxElement::e4m3 ? e4m3_decode(code) : e2m1_decode(code);
}
template <MxElement Element>
LOADSTONE_INLINE float nearest(float x) {
  return Element == MxElement::e4m3 ? e4m3_round(x) : e2m1_round(x);
}

LOADSTONE_INLINE float group_amax(const float* __restrict x, size_t n) {
  int32_t top = 0;
  for (size_t i = 0; i < n; ++i) {
    const int32_t a = std::bit_cast<int32_t>(x[i]) & 0x7fffffff;
    top = a > top ? a : top;
  }
  return std::bit_cast<float>(top);
}

/// 2^(b-top) for b <= top; 0 where that is under the smallest normal float.
LOADSTONE_INLINE float relative_scale(uint8_t b, uint8_t top) {
  if (b == kE8m0Nan) return std::bit_cast<float>(0x7fc00000u);
  const int32_t e = 127 + static_cast<int32_t>(b) - static_cast<int32_t>(top);
  return std::bit_cast<float>(static_cast<uint32_t>(e > 0 ? e : 0) << 23);
}

/// body(begin, count, group) for each group; whole ones with a count the compiler knows.
template <typename Body>
LOADSTONE_INLINE void for_each_group(size_t n, const Body& body) {
  const size_t whole = n / kMxGroup;
  for (size_t g = 0; g < whole; ++g) body(g * kMxGroup, kMxGroup, g);
  if (n % kMxGroup != 0) body(whole * kMxGroup, n % kMxGroup, whole);
}

template <MxRule Rule, MxElement Element>
LOADSTONE_INLINE void quantize_rule(const float* __restrict x, uint8_t* __restrict codes,
                                    uint8_t* __restrict scales, size_t n) {
  for_each_group(
      n, [&](size_t begin, size_t count, size_t g) __attribute__((always_inline)) {
        const uint8_t b = scale_byte<Rule, Element>(group_amax(x + begin, count));
        scales[g] = b;
        const float factor = e8m0_inverse(b);
        for (size_t i = begin; i < begin + count; ++i) codes[i] = encode<Element>(x[i] * factor);
      });
}

template <MxElement Element>
LOADSTONE_INLINE void dequantize_element(const uint8_t* __restrict codes,
                                         const uint8_t* __restrict scales, float* __restrict out,
                                         size_t n) {
  for_each_group(
      n, [&](size_t begin, size_t count, size_t g) __attribute__((always_inline)) {
        const float scale = e8m0_decode(scales[g]);
        for (size_t i = begin; i < begin + count; ++i) out[i] = decode<Element>(codes[i]) * scale;
      });
}

template <MxElement Element>
LOADSTONE_INLINE void decode_bf16_group(const uint8_t* __restrict codes, float scale,
                                        uint16_t* __restrict out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float value = decode<Element>(codes[i]) * scale;
    out[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  }
}

template <MxElement Element>
void decode_bf16_scalar(const uint8_t* codes, const uint8_t* scales, uint8_t top, uint16_t* out,
                        size_t n) {
  for_each_group(n, [&](size_t begin, size_t count, size_t g) {
    decode_bf16_group<Element>(codes + begin, relative_scale(scales[g], top), out + begin, count);
  });
}

#if defined(__x86_64__)
/// Below this the smallest element would not be a normal number.
constexpr int kLeastDelta = -110;

template <MxElement Element>
LOADSTONE_TARGET_AVX2 void decode_bf16_words(const uint8_t* codes, const uint8_t* scales,
                                             uint8_t top, uint16_t* out, size_t n) {
  for (size_t begin = 0, g = 0; begin < n; begin += kMxGroup, ++g) {
    const int delta = static_cast<int>(scales[g]) - static_cast<int>(top);
    const bool exact = scales[g] != kE8m0Nan && delta >= kLeastDelta;
    if (!exact || begin + kMxGroup > n) {
      decode_bf16_group<Element>(codes + begin, relative_scale(scales[g], top), out + begin,
                                 std::min(kMxGroup, n - begin));
      continue;
    }
    Bf16Words words =
        Element == MxElement::e4m3 ? e4m3_words(codes + begin) : e2m1_words(codes + begin);
    words = {scaled(words.first, delta), scaled(words.second, delta)};
    store(words, out + begin);
  }
}
#endif

template <MxElement Element>
void decode_bf16(const uint8_t* codes, const uint8_t* scales, uint8_t top, uint16_t* out, size_t n,
                 Cpu cpu) {
#if defined(__x86_64__)
  if (cpu != Cpu::scalar) return decode_bf16_words<Element>(codes, scales, top, out, n);
#endif
  decode_bf16_scalar<Element>(codes, scales, top, out, n);
}

template <MxRule Rule, MxElement Element>
LOADSTONE_INLINE void round_rule(const float* __restrict x, uint8_t top, float* __restrict values,
                                 size_t n) {
  for_each_group(
      n, [&](size_t begin, size_t count, size_t) __attribute__((always_inline)) {
        const uint8_t b = scale_byte<Rule, Element>(group_amax(x + begin, count));
        const float factor = e8m0_inverse(b), scale = relative_scale(b, top);
        for (size_t i = begin; i < begin + count; ++i) {
          values[i] = nearest<Element>(x[i] * factor) * scale;
        }
      });
}

LOADSTONE_INLINE void relative_scales_body(const uint8_t* __restrict scales, uint8_t top,
                                           float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = relative_scale(scales[i], top);
}
LOADSTONE_KERNEL(relative_scales, (const uint8_t* s, uint8_t top, float* out, size_t n),
                 (s, top, out, n))

// The four pairs of rule and element that methods use.
LOADSTONE_INLINE void quantize_ocp8_body(const float* x, uint8_t* q, uint8_t* s, size_t n) {
  quantize_rule<MxRule::ocp, MxElement::e4m3>(x, q, s, n);
}
LOADSTONE_INLINE void quantize_rceil8_body(const float* x, uint8_t* q, uint8_t* s, size_t n) {
  quantize_rule<MxRule::rceil, MxElement::e4m3>(x, q, s, n);
}
LOADSTONE_INLINE void quantize_ocp4_body(const float* x, uint8_t* q, uint8_t* s, size_t n) {
  quantize_rule<MxRule::ocp, MxElement::e2m1>(x, q, s, n);
}
LOADSTONE_INLINE void quantize_uos4_body(const float* x, uint8_t* q, uint8_t* s, size_t n) {
  quantize_rule<MxRule::uos, MxElement::e2m1>(x, q, s, n);
}
LOADSTONE_INLINE void round_ocp8_body(const float* x, uint8_t top, float* v, size_t n) {
  round_rule<MxRule::ocp, MxElement::e4m3>(x, top, v, n);
}
LOADSTONE_INLINE void round_rceil8_body(const float* x, uint8_t top, float* v, size_t n) {
  round_rule<MxRule::rceil, MxElement::e4m3>(x, top, v, n);
}
LOADSTONE_INLINE void round_ocp4_body(const float* x, uint8_t top, float* v, size_t n) {
  round_rule<MxRule::ocp, MxElement::e2m1>(x, top, v, n);
}
LOADSTONE_INLINE void round_uos4_body(const float* x, uint8_t top, float* v, size_t n) {
  round_rule<MxRule::uos, MxElement::e2m1>(x, top, v, n);
}
LOADSTONE_INLINE void dequantize8_body(const uint8_t* q, const uint8_t* s, float* out, size_t n) {
  dequantize_element<MxElement::e4m3>(q, s, out, n);
}
LOADSTONE_INLINE void dequantize4_body(const uint8_t* q, const uint8_t* s, float* out, size_t n) {
  dequantize_element<MxElement::e2m1>(q, s, out, n);
}
LOADSTONE_KERNEL(quantize_ocp8, (const float* x, uint8_t* q, uint8_t* s, size_t n), (x, q, s, n))
LOADSTONE_KERNEL(quantize_rceil8, (const float* x, uint8_t* q, uint8_t* s, size_t n), (x, q, s, n))
LOADSTONE_KERNEL(quantize_ocp4, (const float* x, uint8_t* q, uint8_t* s, size_t n), (x, q, s, n))
LOADSTONE_KERNEL(quantize_uos4, (const float* x, uint8_t* q, uint8_t* s, size_t n), (x, q, s, n))
LOADSTONE_KERNEL(round_ocp8, (const float* x, uint8_t top, float* v, size_t n), (x, top, v, n))
LOADSTONE_KERNEL(round_rceil8, (const float* x, uint8_t top, float* v, size_t n), (x, top, v, n))
LOADSTONE_KERNEL(round_ocp4, (const float* x, uint8_t top, float* v, size_t n), (x, top, v, n))
LOADSTONE_KERNEL(round_uos4, (const float* x, uint8_t top, float* v, size_t n), (x, top, v, n))
LOADSTONE_KERNEL(dequantize8, (const uint8_t* q, const uint8_t* s, float* out, size_t n),
                 (q, s, out, n))
LOADSTONE_KERNEL(dequantize4, (const uint8_t* q, const uint8_t* s, float* out, size_t n),
                 (q, s, out, n))

}  // namespace

uint8_t mx_scale_byte(MxRule rule, MxElement element, float amax) {
  if (rule == MxRule::uos) return scale_byte<MxRule::uos, MxElement::e2m1>(amax);
  if (rule == MxRule::rceil) return scale_byte<MxRule::rceil, MxElement::e4m3>(amax);
  return element == MxElement::e4m3 ? scale_byte<MxRule::ocp, MxElement::e4m3>(amax)
                                    : scale_byte<MxRule::ocp, MxElement::e2m1>(amax);
}

void mx_quantize(MxRule rule, MxElement element, const float* x, uint8_t* codes, uint8_t* scales,
                 size_t n, Cpu cpu) {
  const auto kernel = rule == MxRule::uos          ? quantize_uos4_for(cpu)
                      : rule == MxRule::rceil      ? quantize_rceil8_for(cpu)
                      : element == MxElement::e4m3 ? quantize_ocp8_for(cpu)
                                                   : quantize_ocp4_for(cpu);
  kernel(x, codes, scales, n);
}

void mx_dequantize(MxElement element, const uint8_t* codes, const uint8_t* scales, float* out,
                   size_t n, Cpu cpu) {
  const auto kernel = element == MxElement::e4m3 ? dequantize8_for(cpu) : dequantize4_for(cpu);
  kernel(codes, scales, out, n);
}

void mx_decode_bf16(MxElement element, const uint8_t* codes, const uint8_t* scales, uint8_t top,
                    uint16_t* out, size_t n, Cpu cpu) {
  const auto kernel =
      element == MxElement::e4m3 ? decode_bf16<MxElement::e4m3> : decode_bf16<MxElement::e2m1>;
  kernel(codes, scales, top, out, n, cpu);
}

void mx_relative_scales(const uint8_t* scales, uint8_t top, float* out, size_t n, Cpu cpu) {
  relative_scales_for(cpu)(scales, top, out, n);
}

float mx_round(MxRule rule, MxElement element, const float* x, float* values, size_t n, Cpu cpu) {
  uint8_t top = 0;
  for_each_group(n, [&](size_t begin, size_t count, size_t) {
    const uint8_t b = mx_scale_byte(rule, element, max_magnitude(x + begin, count, cpu));
    if (b != kE8m0Nan) top = std::max(top, b);
  });
  const auto kernel = rule == MxRule::uos          ? round_uos4_for(cpu)
                      : rule == MxRule::rceil      ? round_rceil8_for(cpu)
                      : element == MxElement::e4m3 ? round_ocp8_for(cpu)
                                                   : round_ocp4_for(cpu);
  kernel(x, top, values, n);
  return e8m0_decode(top);
}

uint8_t mx_top(const uint8_t* scales, size_t n) {
  uint8_t top = 0;
  for (size_t i = 0; i < n; ++i) {
    if (scales[i] != kE8m0Nan) top = std::max(top, scales[i]);
  }
  return top;
}

}  // namespace loadstone::common
