#include "common/product/nibbles.hpp"

#include <algorithm>

#include "common/kernel.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace loadstone::common {
namespace {

/// Columns [begin, end) of one group.
float dot_group(const uint8_t* packed, float scale, float zero, const float* x, uint64_t begin,
                uint64_t end) {
  float sum = 0;
  for (uint64_t i = begin; i < end; ++i) {
    const auto code = static_cast<float>(packed[i / 2] >> 4 * (i % 2) & 15);
    sum += ((code - zero) * scale) * x[i];
  }
  return sum;
}

float dot_scalar(const uint8_t* packed, const float* scales, const float* zeros, uint64_t group,
                 const float* x, uint64_t k) {
  float sum = 0;
  for (uint64_t begin = 0, g = 0; begin < k; begin += group, ++g) {
    sum += dot_group(packed, scales[g], zeros[g], x, begin, std::min(k, begin + group));
  }
  return sum;
}

#if defined(__x86_64__)

#define LS_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")))

LS_AVX512 inline __m512 look_up(__m128i codes, __m512 table) {
  // Four bits of an index are read: what lies above a code needs no masking.
  return _mm512_maskz_permutexvar_ps(0xffff, _mm512_maskz_cvtepu8_epi32(0xffff, codes), table);
}

LS_AVX512 float dot_avx512(const uint8_t* packed, const float* scales, const float* zeros,
                           uint64_t group, const float* x, uint64_t k) {
  const __m512 levels = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
  float rest = 0;
  for (uint64_t begin = 0, g = 0; begin < k; begin += group, ++g) {
    const __m512 differences = _mm512_sub_ps(levels, _mm512_set1_ps(zeros[g]));
    const __m512 table = _mm512_mul_ps(differences, _mm512_set1_ps(scales[g]));
    const uint64_t end = std::min(k, begin + group);
    uint64_t i = begin;
    for (; i + 32 <= end; i += 32) {
      read_ahead(packed + i / 2);
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + i / 2));
      const __m128i high = _mm_srli_epi16(bytes, 4);
      const __m512 a = look_up(_mm_unpacklo_epi8(bytes, high), table);
      const __m512 b = look_up(_mm_unpackhi_epi8(bytes, high), table);
      even = _mm512_fmadd_ps(a, _mm512_loadu_ps(x + i), even);
      odd = _mm512_fmadd_ps(b, _mm512_loadu_ps(x + i + 16), odd);
    }
    rest += dot_group(packed, scales[g], zeros[g], x, i, end);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(even, odd)) + rest;
}

#endif

}  // namespace

float dot_nibbles(const uint8_t* packed, const float* scales, const float* zeros, uint64_t group,
                  const float* x, uint64_t k, [[maybe_unused]] Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == Cpu::avx512) return dot_avx512(packed, scales, zeros, group, x, k);
#endif
  return dot_scalar(packed, scales, zeros, group, x, k);
}

}  // namespace loadstone::common
