// Blocks of 32 and NVFP4's of 64. Included by kernels.inl.

template <Stores k>
LS_INLINE void q4_0(const uint8_t* block, float* to) {
  emit32<k>(to, _mm256_sub_epi8(nibbles(block + 2), _mm256_set1_epi8(8)), half_at(block));
}

template <Stores k>
LS_INLINE void q4_1(const uint8_t* block, float* to) {
  emit32_less<k>(to, nibbles(block + 4), half_at(block), -half_at(block + 2));
}

LS_INLINE __m256i five_bits(const uint8_t* qs, uint32_t high) {
  return _mm256_or_si256(nibbles(qs), _mm256_and_si256(mask_of_bits(high), _mm256_set1_epi8(16)));
}

template <Stores k>
LS_INLINE void q5_0(const uint8_t* block, float* to) {
  const __m256i code = five_bits(block + 6, load_u32(block + 2));
  emit32<k>(to, _mm256_sub_epi8(code, _mm256_set1_epi8(16)), half_at(block));
}

template <Stores k>
LS_INLINE void q5_1(const uint8_t* block, float* to) {
  emit32_less<k>(to, five_bits(block + 8, load_u32(block + 4)), half_at(block),
                 -half_at(block + 2));
}

template <Stores k>
LS_INLINE void q8_0(const uint8_t* block, float* to) {
  emit32<k>(to, load32(block + 2), half_at(block));
}

template <Stores k>
LS_INLINE void iq4_nl(const uint8_t* block, float* to) {
  emit32<k>(to, levels(kIq4Levels, nibbles(block + 2)), half_at(block));
}

template <Stores k>
LS_INLINE void mxfp4(const uint8_t* block, float* to) {
  emit32<k>(to, levels(kE2m1Doubled, nibbles(block + 1)), half_of_e8m0(block[0]));
}

template <Stores k>
LS_INLINE void nvfp4(const uint8_t* block, float* to) {
  const __m256i packed = load32(block + 4);
  // Within each 8 bytes: low nibbles, then high ones.
  const __m256i low = low_nibbles(packed), high = high_nibbles(packed);
  const __m256i first = levels(kE2m1Doubled, _mm256_unpacklo_epi64(low, high));
  const __m256i second = levels(kE2m1Doubled, _mm256_unpackhi_epi64(low, high));
  emit16<k>(to, _mm256_castsi256_si128(first), half_of_ue4m3(block[0]));
  emit16<k>(to + 16, _mm256_castsi256_si128(second), half_of_ue4m3(block[1]));
  emit16<k>(to + 32, _mm256_extracti128_si256(first, 1), half_of_ue4m3(block[2]));
  emit16<k>(to + 48, _mm256_extracti128_si256(second, 1), half_of_ue4m3(block[3]));
}
