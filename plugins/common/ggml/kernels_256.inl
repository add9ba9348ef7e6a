// Super-blocks of 256 without a grid: K types, IQ4_XS, TQ. Included by kernels.inl.

template <Stores k, int kStep>
LS_INLINE void q2_k_step(__m256i packed, const uint8_t* scales, float d, float dmin, float* to) {
  const __m256i q = two_bits<kStep>(packed);
  for (int side = 0; side < 2; ++side) {
    const uint8_t scale = scales[2 * kStep + side];
    const __m128i part = side == 0 ? _mm256_castsi256_si128(q) : _mm256_extracti128_si256(q, 1);
    emit16<k>(to + 32 * kStep + 16 * side, part, d * static_cast<float>(scale & 15),
              dmin * static_cast<float>(scale >> 4));
  }
}

template <Stores k>
LS_INLINE void q2_k(const uint8_t* block, float* to) {
  const float d = half_at(block + 80), dmin = half_at(block + 82);
  for (int half = 0; half < 2; ++half, to += 128) {
    const __m256i packed = load32(block + 16 + 32 * half);
    const uint8_t* scales = block + 8 * half;
    q2_k_step<k, 0>(packed, scales, d, dmin, to);
    q2_k_step<k, 1>(packed, scales, d, dmin, to);
    q2_k_step<k, 2>(packed, scales, d, dmin, to);
    q2_k_step<k, 3>(packed, scales, d, dmin, to);
  }
}

template <Stores k, int kStep>
LS_INLINE void q3_k_step(__m256i packed, __m256i high, int bit, const int8_t* scales, float d,
                         float* to) {
  const __m256i select = _mm256_set1_epi8(static_cast<char>(1u << bit));
  const __m256i absent = _mm256_cmpeq_epi8(_mm256_and_si256(high, select), _mm256_setzero_si256());
  const __m256i four = _mm256_and_si256(absent, _mm256_set1_epi8(4));
  const __m256i q = _mm256_sub_epi8(two_bits<kStep>(packed), four);
  emit32<k>(to + 32 * kStep, q, d * static_cast<float>(scales[2 * kStep]),
            d * static_cast<float>(scales[2 * kStep + 1]));
}

template <Stores k>
LS_INLINE void q3_k(const uint8_t* block, float* to) {
  const float d = half_at(block + 108);
  const __m256i high = load32(block);
  int8_t scales[16];
  unpack_q3_scales(block + 96, scales);
  for (int half = 0; half < 2; ++half, to += 128) {
    const __m256i packed = load32(block + 32 + 32 * half);
    const int8_t* own = scales + 8 * half;
    q3_k_step<k, 0>(packed, high, 4 * half, own, d, to);
    q3_k_step<k, 1>(packed, high, 4 * half + 1, own, d, to);
    q3_k_step<k, 2>(packed, high, 4 * half + 2, own, d, to);
    q3_k_step<k, 3>(packed, high, 4 * half + 3, own, d, to);
  }
}

/// d·scale and dmin·minimum of Q4_K's and Q5_K's eight sub-blocks.
struct KScales {
  float scale[8], minus[8];
};
LS_INLINE KScales k_scales(const uint8_t* block) {
  const __m256 d = _mm256_set1_ps(half_at(block)), dmin = _mm256_set1_ps(half_at(block + 2));
  alignas(16) uint8_t six[16];
  unpack_k_scales(block + 4, six, six + 8);
  const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(six));
  const __m256 scale = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
  const __m256 minimum = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)));
  KScales out;
  _mm256_storeu_ps(out.scale, _mm256_mul_ps(d, scale));
  _mm256_storeu_ps(out.minus, _mm256_mul_ps(dmin, minimum));
  return out;
}

template <Stores k>
LS_INLINE void q4_k(const uint8_t* block, float* to) {
  const KScales s = k_scales(block);
  for (int pair = 0; pair < 4; ++pair, to += 64) {
    const __m256i packed = load32(block + 16 + 32 * pair);
    emit32_less<k>(to, low_nibbles(packed), s.scale[2 * pair], s.minus[2 * pair]);
    emit32_less<k>(to + 32, high_nibbles(packed), s.scale[2 * pair + 1], s.minus[2 * pair + 1]);
  }
}

template <Stores k>
LS_INLINE void q5_k(const uint8_t* block, float* to) {
  const KScales s = k_scales(block);
  const __m256i high = load32(block + 16);
  const __m256i sixteen = _mm256_set1_epi8(16);
  for (int pair = 0; pair < 4; ++pair, to += 64) {
    const __m256i packed = load32(block + 48 + 32 * pair);
    const __m256i first = _mm256_set1_epi8(static_cast<char>(1u << 2 * pair));
    const __m256i second = _mm256_set1_epi8(static_cast<char>(2u << 2 * pair));
    const __m256i a = _mm256_cmpeq_epi8(_mm256_and_si256(high, first), first);
    const __m256i b = _mm256_cmpeq_epi8(_mm256_and_si256(high, second), second);
    emit32_less<k>(to, _mm256_or_si256(low_nibbles(packed), _mm256_and_si256(a, sixteen)),
                   s.scale[2 * pair], s.minus[2 * pair]);
    emit32_less<k>(to + 32, _mm256_or_si256(high_nibbles(packed), _mm256_and_si256(b, sixteen)),
                   s.scale[2 * pair + 1], s.minus[2 * pair + 1]);
  }
}

template <Stores k, int kStep>
LS_INLINE void q6_k_step(__m256i four, __m256i high, const uint8_t* scales, float d, float* to) {
  const __m256i upper = _mm256_slli_epi16(two_bits<kStep>(high), 4);
  const __m256i q = _mm256_sub_epi8(_mm256_or_si256(four, upper), _mm256_set1_epi8(32));
  emit32<k>(to + 32 * kStep, q, d * static_cast<float>(static_cast<int8_t>(scales[2 * kStep])),
            d * static_cast<float>(static_cast<int8_t>(scales[2 * kStep + 1])));
}

template <Stores k>
LS_INLINE void q6_k(const uint8_t* block, float* to) {
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half, to += 128) {
    const __m256i a = load32(block + 64 * half), b = load32(block + 64 * half + 32);
    const __m256i high = load32(block + 128 + 32 * half);
    const uint8_t* scales = block + 192 + 8 * half;
    q6_k_step<k, 0>(low_nibbles(a), high, scales, d, to);
    q6_k_step<k, 1>(low_nibbles(b), high, scales, d, to);
    q6_k_step<k, 2>(high_nibbles(a), high, scales, d, to);
    q6_k_step<k, 3>(high_nibbles(b), high, scales, d, to);
  }
}

template <Stores k>
LS_INLINE void iq4_xs(const uint8_t* block, float* to) {
  const float d = half_at(block);
  const uint32_t scales_high = load_u16(block + 2), scales_low = load_u32(block + 4);
  for (int sub = 0; sub < 8; ++sub) {
    const uint32_t scale = (scales_low >> 4 * sub & 15u) | (scales_high >> 2 * sub & 3u) << 4;
    const float dl = d * static_cast<float>(static_cast<int>(scale) - 32);
    emit32<k>(to + 32 * sub, levels(kIq4Levels, nibbles(block + 8 + 16 * sub)), dl);
  }
}

/// Trits of byte·3^i mod 256, less one.
LS_INLINE __m128i trits_less_one(__m128i bytes, uint32_t power) {
  const __m256i wide = _mm256_mullo_epi16(_mm256_cvtepu8_epi16(bytes),
                                          _mm256_set1_epi16(static_cast<int16_t>(power)));
  const __m256i low = _mm256_and_si256(wide, _mm256_set1_epi16(255));
  const __m256i trit = _mm256_srli_epi16(_mm256_mullo_epi16(low, _mm256_set1_epi16(3)), 8);
  const __m128i packed =
      _mm_packus_epi16(_mm256_castsi256_si128(trit), _mm256_extracti128_si256(trit, 1));
  return _mm_sub_epi8(packed, _mm_set1_epi8(1));
}

template <Stores k>
LS_INLINE void tq1_0(const uint8_t* block, float* to) {
  const float d = half_at(block + 52);
  constexpr uint32_t kPowers[5] = {1, 3, 9, 27, 81};
  for (const uint32_t power : kPowers) {
    emit16<k>(to, trits_less_one(load16(block), power), d);
    emit16<k>(to + 16, trits_less_one(load16(block + 16), power), d);
    to += 32;
  }
  for (const uint32_t power : kPowers) {
    emit16<k>(to, trits_less_one(load16(block + 32), power), d);
    to += 16;
  }
  // Four bytes of four trits each: one vector whose lanes of four bytes are the powers.
  const auto tail = static_cast<int32_t>(load_u32(block + 48));
  const __m128i t0 = trits_less_one(_mm_cvtsi32_si128(tail), 1);
  const __m128i t1 = trits_less_one(_mm_cvtsi32_si128(tail), 3);
  const __m128i t2 = trits_less_one(_mm_cvtsi32_si128(tail), 9);
  const __m128i t3 = trits_less_one(_mm_cvtsi32_si128(tail), 27);
  emit16<k>(to, _mm_unpacklo_epi64(_mm_unpacklo_epi32(t0, t1), _mm_unpacklo_epi32(t2, t3)), d);
}

template <Stores k>
LS_INLINE void tq2_0(const uint8_t* block, float* to) {
  const float d = half_at(block + 64);
  const __m256i one = _mm256_set1_epi8(1);
  for (int half = 0; half < 2; ++half, to += 128) {
    const __m256i packed = load32(block + 32 * half);
    emit32<k>(to, _mm256_sub_epi8(two_bits<0>(packed), one), d);
    emit32<k>(to + 32, _mm256_sub_epi8(two_bits<1>(packed), one), d);
    emit32<k>(to + 64, _mm256_sub_epi8(two_bits<2>(packed), one), d);
    emit32<k>(to + 96, _mm256_sub_epi8(two_bits<3>(packed), one), d);
  }
}
