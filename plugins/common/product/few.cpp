#include "common/product/few.hpp"

#include <algorithm>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/half.hpp"
#include "common/kernel.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define LS_AVX2 __attribute__((target("avx2,fma,bmi2")))
#define LS_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")))
#endif

namespace loadstone::common {
namespace {

float dot_bf16_scalar(const uint16_t* w, const float* x, uint64_t k) {
  float sum = 0;
  for (uint64_t i = 0; i < k; ++i) sum += bf16_decode(w[i]) * x[i];
  return sum;
}

constexpr uint64_t kGroup = 32;  // of dot_bf16_groups

float dot_bf16_groups_scalar(const uint16_t* w, const float* scales, const float* x, uint64_t k) {
  float sum = 0;
  for (uint64_t at = 0; at < k; at += kGroup) {
    sum += scales[at / kGroup] * dot_bf16_scalar(w + at, x + at, std::min(kGroup, k - at));
  }
  return sum;
}

float dot_f32_scalar(const float* w, const float* x, uint64_t k) {
  float sum = 0;
  for (uint64_t i = 0; i < k; ++i) sum += w[i] * x[i];
  return sum;
}

int32_t dot_int8_scalar(const int8_t* w, const int8_t* x, uint64_t k) {
  int32_t sum = 0;
  for (uint64_t i = 0; i < k; ++i) sum += int32_t{w[i]} * x[i];
  return sum;
}

/// One group of `count` columns, an even number.
float dot_e2m1_group(const uint8_t* packed, const float* x, uint64_t count) {
  float sum = 0;
  for (uint64_t i = 0; i < count; i += 2) {
    sum += e2m1_decode(packed[i / 2] & 15u) * x[i];
    sum += e2m1_decode(static_cast<uint8_t>(packed[i / 2] >> 4)) * x[i + 1];
  }
  return sum;
}

template <uint64_t kGroup>
float dot_e2m1_scalar(const uint8_t* packed, const float* scales, const float* x, uint64_t k) {
  float sum = 0;
  for (uint64_t begin = 0, g = 0; begin < k; begin += kGroup, ++g) {
    sum += scales[g] * dot_e2m1_group(packed + begin / 2, x + begin, std::min(kGroup, k - begin));
  }
  return sum;
}

#if defined(__x86_64__)

LS_AVX2 float total(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
LS_AVX2 int32_t total(__m256i v) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_srli_epi64(two, 32)));
}

LS_AVX2 inline __m256 eight_bf16(const uint16_t* at) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

LS_AVX2 float dot_bf16_avx2(const uint16_t* w, const float* x, uint64_t k) {
  __m256 sum[4] = {};
  uint64_t i = 0;
  for (; i + 32 <= k; i += 32) {
    for (uint64_t j = 0; j < 4; ++j) {
      sum[j] = _mm256_fmadd_ps(eight_bf16(w + i + 8 * j), _mm256_loadu_ps(x + i + 8 * j), sum[j]);
    }
  }
  const __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
  return total(all) + dot_bf16_scalar(w + i, x + i, k - i);
}

LS_AVX2 float dot_bf16_groups_avx2(const uint16_t* w, const float* scales, const float* x,
                                   uint64_t k) {
  __m256 sum = _mm256_setzero_ps();
  uint64_t i = 0;
  for (; i + kGroup <= k; i += kGroup) {
    __m256 here[2] = {};
    for (uint64_t j = 0; j < 4; ++j) {
      const __m256 of_x = _mm256_loadu_ps(x + i + 8 * j);
      here[j % 2] = _mm256_fmadd_ps(eight_bf16(w + i + 8 * j), of_x, here[j % 2]);
    }
    const __m256 scale = _mm256_set1_ps(scales[i / kGroup]);
    sum = _mm256_fmadd_ps(_mm256_add_ps(here[0], here[1]), scale, sum);
  }
  return total(sum) + dot_bf16_groups_scalar(w + i, scales + i / kGroup, x + i, k - i);
}

LS_AVX2 float dot_f32_avx2(const float* w, const float* x, uint64_t k) {
  __m256 sum[4] = {};
  uint64_t i = 0;
  for (; i + 32 <= k; i += 32) {
    for (uint64_t j = 0; j < 4; ++j) {
      sum[j] =
          _mm256_fmadd_ps(_mm256_loadu_ps(w + i + 8 * j), _mm256_loadu_ps(x + i + 8 * j), sum[j]);
    }
  }
  const __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
  return total(all) + dot_f32_scalar(w + i, x + i, k - i);
}

LS_AVX2 int32_t dot_int8_avx2(const int8_t* w, const int8_t* x, uint64_t k) {
  const auto sixteen = [](const int8_t* at) LS_AVX2 {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  };
  __m256i sum[2] = {};
  uint64_t i = 0;
  for (; i + 32 <= k; i += 32) {
    for (uint64_t j = 0; j < 2; ++j) {
      const __m256i pairs = _mm256_madd_epi16(sixteen(w + i + 16 * j), sixteen(x + i + 16 * j));
      sum[j] = _mm256_add_epi32(sum[j], pairs);
    }
  }
  return total(_mm256_add_epi32(sum[0], sum[1])) + dot_int8_scalar(w + i, x + i, k - i);
}

/// 32 codes of 16 bytes, in order, one a byte.
LS_AVX2 inline __m256i unpack_codes(const uint8_t* packed) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
  const __m128i fifteen = _mm_set1_epi8(15);
  const __m128i even = _mm_and_si128(bytes, fifteen);
  const __m128i odd = _mm_and_si128(_mm_srli_epi16(bytes, 4), fifteen);
  return _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
}

/// Twice the values, which are whole numbers; kGroup of 16 or 32.
template <uint64_t kGroup>
LS_AVX2 float dot_e2m1_avx2(const uint8_t* packed, const float* scales, const float* x,
                            uint64_t k) {
  const __m128i levels = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  const __m256i table = _mm256_set_m128i(levels, levels);
  __m256 sum = _mm256_setzero_ps();
  uint64_t i = 0;
  for (; i + 32 <= k; i += 32) {
    const __m256i codes = _mm256_shuffle_epi8(table, unpack_codes(packed + i / 2));
    const __m128i halves[2] = {_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)};
    for (uint64_t j = 0; j < 2; ++j) {
      const float* at = x + i + 16 * j;
      const __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(halves[j]));
      const __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(halves[j], 8)));
      const __m256 here =
          _mm256_fmadd_ps(a, _mm256_loadu_ps(at), _mm256_mul_ps(b, _mm256_loadu_ps(at + 8)));
      const __m256 scale = _mm256_set1_ps(0.5f * scales[(i + 16 * j) / kGroup]);
      sum = _mm256_fmadd_ps(here, scale, sum);
    }
  }
  return total(sum) + dot_e2m1_scalar<kGroup>(packed + i / 2, scales + i / kGroup, x + i, k - i);
}

LS_AVX512 inline __m512 sixteen_bf16(const uint16_t* at) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_maskz_cvtepu16_epi32(0xffff, bits), 16));
}

LS_AVX512 float dot_bf16_avx512(const uint16_t* w, const float* x, uint64_t k) {
  __m512 sum[4] = {};
  uint64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    for (uint64_t j = 0; j < 4; ++j) {
      const __m512 of_x = _mm512_loadu_ps(x + i + 16 * j);
      sum[j] = _mm512_fmadd_ps(sixteen_bf16(w + i + 16 * j), of_x, sum[j]);
    }
  }
  const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
  return _mm512_reduce_add_ps(all) + dot_bf16_avx2(w + i, x + i, k - i);
}

LS_AVX512 float dot_bf16_groups_avx512(const uint16_t* w, const float* scales, const float* x,
                                       uint64_t k) {
  __m512 sum[2] = {};
  uint64_t i = 0;
  for (; i + 2 * kGroup <= k; i += 2 * kGroup) {
    for (uint64_t j = 0; j < 2; ++j) {
      const uint64_t at = i + kGroup * j;
      __m512 here = _mm512_mul_ps(sixteen_bf16(w + at), _mm512_loadu_ps(x + at));
      here = _mm512_fmadd_ps(sixteen_bf16(w + at + 16), _mm512_loadu_ps(x + at + 16), here);
      sum[j] = _mm512_fmadd_ps(here, _mm512_set1_ps(scales[at / kGroup]), sum[j]);
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1])) +
         dot_bf16_groups_avx2(w + i, scales + i / kGroup, x + i, k - i);
}

LS_AVX512 int32_t dot_int8_avx512(const int8_t* w, const int8_t* x, uint64_t k) {
  const auto thirty_two = [](const int8_t* at) LS_AVX512 {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_maskz_cvtepi8_epi16(0xffffffff, bytes);
  };
  __m512i sum[2] = {};
  uint64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    read_ahead(w + i);
    for (uint64_t j = 0; j < 2; ++j) {
      const __m512i a = thirty_two(w + i + 32 * j), b = thirty_two(x + i + 32 * j);
      sum[j] = _mm512_add_epi32(sum[j], _mm512_madd_epi16(a, b));
    }
  }
  const int32_t whole = _mm512_reduce_add_epi32(_mm512_add_epi32(sum[0], sum[1]));
  return whole + dot_int8_avx2(w + i, x + i, k - i);
}

LS_AVX512 inline __m512 values_of(__m512 table, __m128i codes) {
  return _mm512_permutexvar_ps(_mm512_maskz_cvtepu8_epi32(0xffff, codes), table);
}

/// 32 columns of one row, their groups' scales applied, added to `sum`.
LS_AVX512 inline __m512 add_e2m1(const uint8_t* packed, __m512 first_scale, __m512 second_scale,
                                 const float* x, __m512 sum) {
  const __m512 table = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f,
                                      -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
  // The permutation reads four bits of an index: what lies above needs no masking.
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
  const __m128i odd = _mm_srli_epi16(bytes, 4);
  const __m512 a = _mm512_mul_ps(values_of(table, _mm_unpacklo_epi8(bytes, odd)), first_scale);
  const __m512 b = _mm512_mul_ps(values_of(table, _mm_unpackhi_epi8(bytes, odd)), second_scale);
  sum = _mm512_fmadd_ps(a, _mm512_loadu_ps(x), sum);
  return _mm512_fmadd_ps(b, _mm512_loadu_ps(x + 16), sum);
}

template <uint64_t kGroup>
LS_AVX512 float dot_e2m1_avx512(const uint8_t* packed, const float* scales, const float* x,
                                uint64_t k) {
  __m512 sum[2] = {};
  uint64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    read_ahead(packed + i / 2);
    for (uint64_t j = 0; j < 2; ++j) {
      const uint64_t at = i + 32 * j;
      const __m512 first = _mm512_set1_ps(scales[at / kGroup]);
      const __m512 second = _mm512_set1_ps(scales[(at + 16) / kGroup]);
      sum[j] = add_e2m1(packed + at / 2, first, second, x + at, sum[j]);
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1])) +
         dot_e2m1_avx2<kGroup>(packed + i / 2, scales + i / kGroup, x + i, k - i);
}

#endif

}  // namespace

float dot_bf16(const uint16_t* w, const float* x, uint64_t k, Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == Cpu::avx512) return dot_bf16_avx512(w, x, k);
  if (cpu == Cpu::avx2) return dot_bf16_avx2(w, x, k);
#endif
  return dot_bf16_scalar(w, x, k);
}

float dot_bf16_groups(const uint16_t* w, const float* scales, const float* x, uint64_t k, Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == Cpu::avx512) return dot_bf16_groups_avx512(w, scales, x, k);
  if (cpu == Cpu::avx2) return dot_bf16_groups_avx2(w, scales, x, k);
#endif
  return dot_bf16_groups_scalar(w, scales, x, k);
}

float dot_f32(const float* w, const float* x, uint64_t k, [[maybe_unused]] Cpu cpu) {
#if defined(__x86_64__)
  if (cpu != Cpu::scalar) return dot_f32_avx2(w, x, k);
#endif
  return dot_f32_scalar(w, x, k);
}

int32_t dot_int8(const int8_t* w, const int8_t* x, uint64_t k, Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == Cpu::avx512) return dot_int8_avx512(w, x, k);
  if (cpu == Cpu::avx2) return dot_int8_avx2(w, x, k);
#endif
  return dot_int8_scalar(w, x, k);
}

float dot_e2m1(const uint8_t* packed, const float* scales, uint64_t group, const float* x,
               uint64_t k, Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == Cpu::avx512) {
    return (group == 16 ? dot_e2m1_avx512<16> : dot_e2m1_avx512<32>)(packed, scales, x, k);
  }
  if (cpu == Cpu::avx2) {
    return (group == 16 ? dot_e2m1_avx2<16> : dot_e2m1_avx2<32>)(packed, scales, x, k);
  }
#endif
  return (group == 16 ? dot_e2m1_scalar<16> : dot_e2m1_scalar<32>)(packed, scales, x, k);
}

}  // namespace loadstone::common
