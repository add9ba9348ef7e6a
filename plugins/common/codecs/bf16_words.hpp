// Inside the codecs: codes to the bf16 bits of their values by byte tables, 32 at a time, for AVX2
// and above. The scalar decoders are the definition; the bits are equal.
#pragma once

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdint>

#include "common/kernel.hpp"

namespace loadstone::common {

#define LOADSTONE_WORDS_INLINE LOADSTONE_TARGET_AVX2 static inline __attribute__((always_inline))

/// 32 bf16 values in order.
struct Bf16Words {
  __m256i first, second;
};

/// Joins low and high bytes of 32 values.
LOADSTONE_WORDS_INLINE Bf16Words join_bytes(__m256i low, __m256i high) {
  const __m256i a = _mm256_unpacklo_epi8(low, high), b = _mm256_unpackhi_epi8(low, high);
  return {_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
}

LOADSTONE_WORDS_INLINE __m256i twice(__m128i table) { return _mm256_set_m128i(table, table); }

LOADSTONE_WORDS_INLINE Bf16Words e4m3_words(const uint8_t* at) {
  // m·2^-9 of the subnormals 0 to 7.
  const __m256i subnormal_low = twice(
      _mm_setr_epi8(0, 0, static_cast<char>(0x80), static_cast<char>(0xc0), 0, 0x20, 0x40, 0x60,  //
                    0, 0, 0, 0, 0, 0, 0, 0));
  const __m256i subnormal_high =
      twice(_mm_setr_epi8(0, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c,  //
                          0, 0, 0, 0, 0, 0, 0, 0));
  read_ahead(at);
  const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i a = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
  const __m256i subnormal = _mm256_cmpgt_epi8(_mm256_set1_epi8(8), a);
  const __m256i nan = _mm256_cmpeq_epi8(a, _mm256_set1_epi8(0x7f));
  // Normal: the code four bits up, and 120 added to the exponent.
  __m256i low =
      _mm256_and_si256(_mm256_slli_epi16(a, 4), _mm256_set1_epi8(static_cast<char>(0xf0)));
  __m256i high = _mm256_add_epi8(_mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(0x0f)),
                                 _mm256_set1_epi8(0x3c));
  low = _mm256_blendv_epi8(low, _mm256_shuffle_epi8(subnormal_low, a), subnormal);
  high = _mm256_blendv_epi8(high, _mm256_shuffle_epi8(subnormal_high, a), subnormal);
  low = _mm256_blendv_epi8(low, _mm256_set1_epi8(static_cast<char>(0xc0)), nan);
  high = _mm256_blendv_epi8(high, _mm256_set1_epi8(0x7f), nan);
  const __m256i sign = _mm256_andnot_si256(_mm256_set1_epi8(0x7f), codes);
  return join_bytes(low, _mm256_or_si256(high, sign));
}

/// 32 codes, one a byte.
LOADSTONE_WORDS_INLINE Bf16Words e2m1_words(const uint8_t* at) {
  const __m256i low_table = twice(_mm_setr_epi8(
      0, 0, static_cast<char>(0x80), static_cast<char>(0xc0), 0, 0x40, static_cast<char>(0x80),
      static_cast<char>(0xc0), 0, 0, static_cast<char>(0x80), static_cast<char>(0xc0), 0, 0x40,
      static_cast<char>(0x80), static_cast<char>(0xc0)));
  const __m256i high_table = twice(_mm_setr_epi8(
      0, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40, static_cast<char>(0x80), static_cast<char>(0xbf),
      static_cast<char>(0xbf), static_cast<char>(0xbf), static_cast<char>(0xc0),
      static_cast<char>(0xc0), static_cast<char>(0xc0), static_cast<char>(0xc0)));
  const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  return join_bytes(_mm256_shuffle_epi8(low_table, codes), _mm256_shuffle_epi8(high_table, codes));
}

/// times 2^delta, for finite results that are normal; zeros and NaN stay.
LOADSTONE_WORDS_INLINE __m256i scaled(__m256i words, int delta) {
  const __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi16(0x7fff));
  const __m256i zero = _mm256_cmpeq_epi16(magnitude, _mm256_setzero_si256());
  const __m256i special = _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(0x7f7f));
  const __m256i change = _mm256_set1_epi16(static_cast<int16_t>(delta * 128));
  return _mm256_add_epi16(words, _mm256_andnot_si256(_mm256_or_si256(zero, special), change));
}

LOADSTONE_WORDS_INLINE void store(Bf16Words words, uint16_t* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words.first);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16), words.second);
}

#undef LOADSTONE_WORDS_INLINE

}  // namespace loadstone::common

#endif
