// Types whose codes index a grid: IQ1, IQ2, IQ3. Included by kernels.inl.

LS_INLINE __m256i four_of(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return _mm256_set_epi64x(static_cast<int64_t>(d), static_cast<int64_t>(c),
                           static_cast<int64_t>(b), static_cast<int64_t>(a));
}

/// Four 7-bit sign indices to 32 sign bits.
LS_INLINE uint32_t signs32(uint32_t aux) {
  return signs_of(aux & 127u) | signs_of(aux >> 7 & 127u) << 8 | signs_of(aux >> 14 & 127u) << 16 |
         signs_of(aux >> 21 & 127u) << 24;
}

template <Stores k>
LS_INLINE void iq2_xxs(const uint8_t* block, float* to) {
  const float d = half_at(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* at = block + 2 + 8 * sub;
    const uint32_t aux = load_u32(at + 4);
    const float db = d * (0.5f + static_cast<float>(aux >> 28)) * 0.25f;
    const __m256i grid =
        four_of(kIq2XxsGrid[at[0]], kIq2XxsGrid[at[1]], kIq2XxsGrid[at[2]], kIq2XxsGrid[at[3]]);
    emit32<k>(to + 32 * sub, negate_where(grid, signs32(aux)), db);
  }
}

LS_INLINE float iq2_scale(float d, uint32_t nibble) {
  return d * (0.5f + static_cast<float>(nibble)) * 0.25f;
}

template <Stores k>
LS_INLINE void iq2_xs(const uint8_t* block, float* to) {
  const float d = half_at(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* at = block + 2 + 8 * sub;
    const uint32_t c0 = load_u16(at), c1 = load_u16(at + 2), c2 = load_u16(at + 4),
                   c3 = load_u16(at + 6);
    const __m256i grid = four_of(kIq2XsGrid[c0 & 511u], kIq2XsGrid[c1 & 511u],
                                 kIq2XsGrid[c2 & 511u], kIq2XsGrid[c3 & 511u]);
    const uint32_t signs = signs_of(c0 >> 9) | signs_of(c1 >> 9) << 8 | signs_of(c2 >> 9) << 16 |
                           signs_of(c3 >> 9) << 24;
    const uint32_t scales = block[66 + sub];
    emit32<k>(to + 32 * sub, negate_where(grid, signs), iq2_scale(d, scales & 15u),
              iq2_scale(d, scales >> 4));
  }
}

template <Stores k>
LS_INLINE void iq2_s(const uint8_t* block, float* to) {
  const float d = half_at(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* qs = block + 2 + 4 * sub;
    const uint32_t high = block[66 + sub], scales = block[74 + sub];
    const __m256i grid =
        four_of(kIq2SGrid[qs[0] | (high & 3u) << 8], kIq2SGrid[qs[1] | (high >> 2 & 3u) << 8],
                kIq2SGrid[qs[2] | (high >> 4 & 3u) << 8], kIq2SGrid[qs[3] | (high >> 6) << 8]);
    emit32<k>(to + 32 * sub, negate_where(grid, load_u32(block + 34 + 4 * sub)),
              iq2_scale(d, scales & 15u), iq2_scale(d, scales >> 4));
  }
}

/// Eight entries of a 4-byte grid.
LS_INLINE __m256i eight_of(const uint32_t* grid, __m256i index) {
  return _mm256_i32gather_epi32(reinterpret_cast<const int*>(grid), index, 4);
}

LS_INLINE __m256i widen8(const uint8_t* at) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
}

template <Stores k>
LS_INLINE void iq3_xxs(const uint8_t* block, float* to) {
  const float d = half_at(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint32_t aux = load_u32(block + 66 + 4 * sub);
    const float db = d * (0.5f + static_cast<float>(aux >> 28)) * 0.5f;
    const __m256i grid = eight_of(kIq3XxsGrid, widen8(block + 2 + 8 * sub));
    emit32<k>(to + 32 * sub, negate_where(grid, signs32(aux)), db);
  }
}

template <Stores k>
LS_INLINE void iq3_s(const uint8_t* block, float* to) {
  const float d = half_at(block);
  const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (int sub = 0; sub < 8; ++sub) {
    const __m256i bits = _mm256_and_si256(_mm256_set1_epi32(block[66 + sub]), select);
    const __m256i high = _mm256_and_si256(_mm256_cmpeq_epi32(bits, select), _mm256_set1_epi32(256));
    const __m256i index = _mm256_or_si256(widen8(block + 2 + 8 * sub), high);
    const uint32_t scale = block[106 + sub / 2] >> 4 * (sub % 2) & 15u;
    const float db = d * static_cast<float>(1 + 2 * scale);
    emit32<k>(to + 32 * sub,
              negate_where(eight_of(kIq3SGrid, index), load_u32(block + 74 + 4 * sub)), db);
  }
}

/// 8·grid for entries in {-1, 0, 1}.
LS_INLINE __m256i eightfold(__m256i grid) { return _mm256_sign_epi8(_mm256_set1_epi8(8), grid); }

template <Stores k>
LS_INLINE void iq1_s(const uint8_t* block, float* to) {
  const float d = half_at(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* qs = block + 2 + 4 * sub;
    const uint32_t qh = load_u16(block + 34 + 2 * sub);
    const float dl = d * static_cast<float>(2 * (qh >> 12 & 7u) + 1);
    const __m256i grid =
        four_of(kIq1SGrid[qs[0] | (qh & 7u) << 8], kIq1SGrid[qs[1] | (qh >> 3 & 7u) << 8],
                kIq1SGrid[qs[2] | (qh >> 6 & 7u) << 8], kIq1SGrid[qs[3] | (qh >> 9 & 7u) << 8]);
    const __m256i delta = _mm256_set1_epi8((qh & 0x8000u) != 0 ? -1 : 1);
    emit32<k>(to + 32 * sub, _mm256_add_epi8(eightfold(grid), delta), dl * 0.125f);
  }
}

template <Stores k>
LS_INLINE void iq1_m(const uint8_t* block, float* to) {
  uint32_t d_bits = 0;
  for (int i = 0; i < 4; ++i) d_bits |= load_u16(block + 48 + 2 * i) >> 12 << 4 * i;
  const float d = _cvtsh_ss(static_cast<uint16_t>(d_bits));
  const __m256i one = _mm256_set1_epi8(1);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* qs = block + 4 * sub;
    const uint32_t high = load_u16(block + 32 + 2 * sub);
    const __m256i grid = four_of(
        kIq1SGrid[qs[0] | (high & 7u) << 8], kIq1SGrid[qs[1] | (high >> 4 & 7u) << 8],
        kIq1SGrid[qs[2] | (high >> 8 & 7u) << 8], kIq1SGrid[qs[3] | (high >> 12 & 7u) << 8]);
    // Bytes 0 or -1 from bits 3, 7, 11 and 15; (0|-1)·2 + 1 = 1 or -1.
    const __m256i minus = four_of(
        0 - static_cast<uint64_t>(high >> 3 & 1u), 0 - static_cast<uint64_t>(high >> 7 & 1u),
        0 - static_cast<uint64_t>(high >> 11 & 1u), 0 - static_cast<uint64_t>(high >> 15 & 1u));
    const __m256i delta = _mm256_add_epi8(_mm256_add_epi8(minus, minus), one);
    const uint32_t scales = load_u16(block + 48 + 2 * (sub / 2)) >> 6 * (sub % 2);
    const float low = d * static_cast<float>(2 * (scales & 7u) + 1);
    const float upper = d * static_cast<float>(2 * (scales >> 3 & 7u) + 1);
    emit32<k>(to + 32 * sub, _mm256_add_epi8(eightfold(grid), delta), low * 0.125f, upper * 0.125f);
  }
}
