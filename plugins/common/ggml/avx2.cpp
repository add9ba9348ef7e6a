// Decoders with AVX2 (with F16C).
#if defined(__x86_64__)

#include <immintrin.h>

#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/kernels.hpp"
#include "common/kernel.hpp"

namespace loadstone::ggml::avx2 {
namespace {

#define LS_TARGET LOADSTONE_TARGET_AVX2

template <Stores k>
LS_TARGET static inline __attribute__((always_inline)) void put8(float* to, __m256 v) {
  if constexpr (k == Stores::streamed) {
    _mm256_stream_ps(to, v);
  } else {
    _mm256_storeu_ps(to, v);
  }
}

LS_TARGET static inline __attribute__((always_inline)) __m256 float8(__m128i q) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
}

template <Stores k>
LS_TARGET static inline __attribute__((always_inline)) void emit16(float* to, __m128i q,
                                                                   float scale) {
  const __m256 s = _mm256_set1_ps(scale);
  put8<k>(to, _mm256_mul_ps(s, float8(q)));
  put8<k>(to + 8, _mm256_mul_ps(s, float8(_mm_srli_si128(q, 8))));
}

template <Stores k>
LS_TARGET static inline __attribute__((always_inline)) void emit16(float* to, __m128i q,
                                                                   float scale, float minus) {
  const __m256 s = _mm256_set1_ps(scale), m = _mm256_set1_ps(minus);
  put8<k>(to, _mm256_sub_ps(_mm256_mul_ps(s, float8(q)), m));
  put8<k>(to + 8, _mm256_sub_ps(_mm256_mul_ps(s, float8(_mm_srli_si128(q, 8))), m));
}

#include "common/ggml/kernels.inl"

}  // namespace

Dequantize dequantizer(Type type, Stores stores) {
  for (const Entry& entry : kEntries) {
    if (entry.type == type) return stores == Stores::streamed ? entry.streamed : entry.cached;
  }
  return nullptr;
}

}  // namespace loadstone::ggml::avx2

#endif
