// The vector decoders, written once over 256-bit integers and included by avx2.cpp and avx512.cpp
// into their namespaces. The includer defines LS_TARGET (the function attribute) and, for
// k = Stores::cached or ::streamed, 16 values at a time:
//   emit16<k>(to, q, scale)           to[i] = scale·q[i]
//   emit16<k>(to, q, scale, minus)    to[i] = scale·q[i] - minus
// Each type unpacks its codes to int8 and leaves the arithmetic to emit. IQ2 and IQ3 negate the
// code and IQ1 scales 8·(grid+delta) by an eighth of its scale: both exact, so bits stay equal.

#define LS_INLINE LS_TARGET static inline __attribute__((always_inline))

LS_INLINE float half_at(const uint8_t* at) {
  return _cvtsh_ss(static_cast<uint16_t>(load_u16(at)));
}

LS_INLINE __m256i load32(const uint8_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
LS_INLINE __m128i load16(const uint8_t* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
LS_INLINE __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
LS_INLINE __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }

/// 16 bytes to 32 codes: low nibbles, then high ones.
LS_INLINE __m256i nibbles(const uint8_t* qs) {
  const __m128i packed = load16(qs);
  return low_nibbles(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed));
}

/// Bits 2·kStep and 2·kStep+1 of each byte.
template <int kStep>
LS_INLINE __m256i two_bits(__m256i v) {
  return _mm256_and_si256(_mm256_srli_epi16(v, 2 * kStep), _mm256_set1_epi8(3));
}

/// 0xFF where bit i of `bits` is set, for bytes i = 0..31.
LS_INLINE __m256i mask_of_bits(uint32_t bits) {
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                          2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i select = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ull));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(bits)), spread);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, select), select);
}

/// Negates byte i where bit i of `bits` is set.
LS_INLINE __m256i negate_where(__m256i v, uint32_t bits) {
  const __m256i mask = mask_of_bits(bits);
  return _mm256_sub_epi8(_mm256_xor_si256(v, mask), mask);
}

/// Table lookup by codes below 16.
LS_INLINE __m256i levels(const int8_t* table, __m256i codes) {
  const __m128i one = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_set_m128i(one, one), codes);
}

template <Stores k>
LS_INLINE void emit32(float* to, __m256i q, float low, float high) {
  emit16<k>(to, _mm256_castsi256_si128(q), low);
  emit16<k>(to + 16, _mm256_extracti128_si256(q, 1), high);
}
template <Stores k>
LS_INLINE void emit32(float* to, __m256i q, float scale) {
  emit32<k>(to, q, scale, scale);
}
template <Stores k>
LS_INLINE void emit32_less(float* to, __m256i q, float scale, float minus) {
  emit16<k>(to, _mm256_castsi256_si128(q), scale, minus);
  emit16<k>(to + 16, _mm256_extracti128_si256(q, 1), scale, minus);
}

#include "common/ggml/kernels_256.inl"
#include "common/ggml/kernels_32.inl"
#include "common/ggml/kernels_grid.inl"

// ---- rows of blocks -----------------------------------------------------------------------------

#define LS_ROW(name, elems, nbytes)                                                          \
  template <Stores k>                                                                        \
  LS_TARGET void name##_row(const uint8_t* from, uint64_t blocks, float* to) {               \
    for (uint64_t i = 0; i < blocks; ++i, from += nbytes, to += elems) {                     \
      name<k>(from, to);                                                                     \
    }                                                                                        \
    if (k == Stores::streamed) _mm_sfence();                                                 \
  }                                                                                          \
  LS_TARGET void name##_streamed(const uint8_t* from, uint64_t blocks, float* to) {          \
    const bool aligned = reinterpret_cast<uintptr_t>(to) % 64 == 0;                          \
    (aligned ? name##_row<Stores::streamed> : name##_row<Stores::cached>)(from, blocks, to); \
  }

LS_ROW(q4_0, 32, 18)
LS_ROW(q4_1, 32, 20)
LS_ROW(q5_0, 32, 22)
LS_ROW(q5_1, 32, 24)
LS_ROW(q8_0, 32, 34)
LS_ROW(q2_k, 256, 84)
LS_ROW(q3_k, 256, 110)
LS_ROW(q4_k, 256, 144)
LS_ROW(q5_k, 256, 176)
LS_ROW(q6_k, 256, 210)
LS_ROW(iq2_xxs, 256, 66)
LS_ROW(iq2_xs, 256, 74)
LS_ROW(iq2_s, 256, 82)
LS_ROW(iq3_xxs, 256, 98)
LS_ROW(iq3_s, 256, 110)
LS_ROW(iq1_s, 256, 50)
LS_ROW(iq1_m, 256, 56)
LS_ROW(iq4_nl, 32, 18)
LS_ROW(iq4_xs, 256, 136)
LS_ROW(tq1_0, 256, 54)
LS_ROW(tq2_0, 256, 66)
LS_ROW(mxfp4, 32, 17)
LS_ROW(nvfp4, 64, 36)
#undef LS_ROW

struct Entry {
  Type type;
  Dequantize cached, streamed;
};

constexpr Entry kEntries[] = {
    {kQ4_0, q4_0_row<Stores::cached>, q4_0_streamed},
    {kQ4_1, q4_1_row<Stores::cached>, q4_1_streamed},
    {kQ5_0, q5_0_row<Stores::cached>, q5_0_streamed},
    {kQ5_1, q5_1_row<Stores::cached>, q5_1_streamed},
    {kQ8_0, q8_0_row<Stores::cached>, q8_0_streamed},
    {kQ2_K, q2_k_row<Stores::cached>, q2_k_streamed},
    {kQ3_K, q3_k_row<Stores::cached>, q3_k_streamed},
    {kQ4_K, q4_k_row<Stores::cached>, q4_k_streamed},
    {kQ5_K, q5_k_row<Stores::cached>, q5_k_streamed},
    {kQ6_K, q6_k_row<Stores::cached>, q6_k_streamed},
    {kIQ2_XXS, iq2_xxs_row<Stores::cached>, iq2_xxs_streamed},
    {kIQ2_XS, iq2_xs_row<Stores::cached>, iq2_xs_streamed},
    {kIQ2_S, iq2_s_row<Stores::cached>, iq2_s_streamed},
    {kIQ3_XXS, iq3_xxs_row<Stores::cached>, iq3_xxs_streamed},
    {kIQ3_S, iq3_s_row<Stores::cached>, iq3_s_streamed},
    {kIQ1_S, iq1_s_row<Stores::cached>, iq1_s_streamed},
    {kIQ1_M, iq1_m_row<Stores::cached>, iq1_m_streamed},
    {kIQ4_NL, iq4_nl_row<Stores::cached>, iq4_nl_streamed},
    {kIQ4_XS, iq4_xs_row<Stores::cached>, iq4_xs_streamed},
    {kTQ1_0, tq1_0_row<Stores::cached>, tq1_0_streamed},
    {kTQ2_0, tq2_0_row<Stores::cached>, tq2_0_streamed},
    {kMXFP4, mxfp4_row<Stores::cached>, mxfp4_streamed},
    {kNVFP4, nvfp4_row<Stores::cached>, nvfp4_streamed},
};

#undef LS_INLINE
