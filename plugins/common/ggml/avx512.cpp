// Decoders with AVX-512.
#if defined(__x86_64__)

#include <immintrin.h>

#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/kernels.hpp"
#include "common/kernel.hpp"

namespace loadstone::ggml::avx512 {
namespace {

#define LS_TARGET LOADSTONE_TARGET_AVX512

template <Stores k>
LS_TARGET static inline __attribute__((always_inline)) void put16(float* to, __m512 v) {
  if constexpr (k == Stores::streamed) {
    _mm512_stream_ps(to, v);
  } else {
    _mm512_storeu_ps(to, v);
  }
}

// All-ones masks: g++ 12 warns about its own headers in the unmasked conversions.
LS_TARGET static inline __attribute__((always_inline)) __m512 float16(__m128i q) {
  constexpr __mmask16 kAll = 0xffff;
  return _mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_cvtepi8_epi32(kAll, q));
}

template <Stores k>
LS_TARGET static inline __attribute__((always_inline)) void emit16(float* to, __m128i q,
                                                                   float scale) {
  const __m512 value = float16(q);
  put16<k>(to, _mm512_mul_ps(_mm512_set1_ps(scale), value));
}

template <Stores k>
LS_TARGET static inline __attribute__((always_inline)) void emit16(float* to, __m128i q,
                                                                   float scale, float minus) {
  const __m512 value = float16(q);
  put16<k>(to, _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(scale), value), _mm512_set1_ps(minus)));
}

#include "common/ggml/kernels.inl"

}  // namespace

Dequantize dequantizer(Type type, Stores stores) {
  for (const Entry& entry : kEntries) {
    if (entry.type == type) return stores == Stores::streamed ? entry.streamed : entry.cached;
  }
  return nullptr;
}

}  // namespace loadstone::ggml::avx512

#endif
