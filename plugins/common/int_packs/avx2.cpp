// Octets of output rows: codes of a column become a vector over eight rows, which is scaled and
// (for dequantize) transposed with seven others. The AVX-512 level runs these too.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "common/int_packs/kernels.hpp"

namespace loadstone::int_packs::avx2 {
namespace {

#define LS_TARGET __attribute__((target("avx2,fma,f16c,bmi2")))
#define LS_INLINE LS_TARGET static inline __attribute__((always_inline))

LS_INLINE __m256i awq_octet(uint32_t word) {
  const __m256i shift = _mm256_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28);
  const __m256i spread = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int32_t>(word)), shift);
  return _mm256_and_si256(spread, _mm256_set1_epi32(15));
}

/// Eight consecutive values of a stream that begin on a byte.
LS_INLINE __m256i stream_octet(const uint32_t* words, uint64_t index, uint32_t bits) {
  uint64_t packed = 0;
  std::memcpy(&packed, reinterpret_cast<const char*>(words) + index * bits / 8, bits);
  const __m256i all = _mm256_set1_epi64x(static_cast<int64_t>(packed));
  const __m256i step = _mm256_set1_epi64x(bits);
  const __m256i first = _mm256_mul_epu32(_mm256_setr_epi64x(0, 1, 4, 5), step);
  const __m256i second = _mm256_mul_epu32(_mm256_setr_epi64x(2, 3, 6, 7), step);
  const __m256 low = _mm256_castsi256_ps(_mm256_srlv_epi64(all, first));
  const __m256 high = _mm256_castsi256_ps(_mm256_srlv_epi64(all, second));
  const __m256i values = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88));
  return _mm256_and_si256(values, _mm256_set1_epi32((1 << bits) - 1));
}

/// Zero points and scales of one group for eight rows.
struct GroupOctet {
  __m256i zero;
  __m256 scale;
};
LS_INLINE GroupOctet group_octet(const Matrix& m, uint64_t group, uint64_t n) {
  const uint32_t* zeros = m.qzeros + group * (m.n * m.bits / 32);
  const __m256i stored =
      m.packing == Packing::awq ? awq_octet(zeros[n / 8]) : stream_octet(zeros, n, m.bits);
  GroupOctet out;
  out.zero = _mm256_add_epi32(stored, _mm256_set1_epi32(static_cast<int32_t>(m.zero_bias)));
  const uint64_t at = group * m.n + n;
  if (m.scale_dtype == LS_DTYPE_F32) {
    out.scale = _mm256_loadu_ps(static_cast<const float*>(m.scales) + at);
    return out;
  }
  const auto* half = static_cast<const uint16_t*>(m.scales) + at;
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half));
  out.scale = m.scale_dtype == LS_DTYPE_BF16
                  ? _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))
                  : _mm256_cvtph_ps(bits);
  return out;
}

/// The word that the next 32 columns begin with: rows lie apart, and no processor runs ahead there.
LS_INLINE void ask_for(const uint32_t* at, uint64_t words) {
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(at) + 4 * words),
               _MM_HINT_T0);
}

/// Codes of 32 columns from `k` for the rows from `n`: gptq's come from kBits words a row.
template <uint32_t kBits>
struct GptqCodes {
  __m256i words[kBits];

  LS_TARGET inline __attribute__((always_inline)) void load(const Matrix& m, uint64_t k,
                                                            uint64_t n) {
    const uint32_t* at = m.qweight + k / 32 * kBits * m.n + n;
    for (uint32_t w = 0; w < kBits; ++w) {
      words[w] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + w * m.n));
      ask_for(at, (kBits + w) * m.n);
    }
  }
  LS_TARGET inline __attribute__((always_inline)) __m256i column(uint32_t i) const {
    const uint32_t word = i * kBits / 32, shift = i * kBits % 32;
    __m256i code = _mm256_srli_epi32(words[word], static_cast<int>(shift));
    if (shift + kBits > 32) {
      code =
          _mm256_or_si256(code, _mm256_slli_epi32(words[word + 1], static_cast<int>(32 - shift)));
    }
    return _mm256_and_si256(code, _mm256_set1_epi32((1 << kBits) - 1));
  }
};

struct AwqCodes {
  const uint32_t* at;
  uint64_t row_words;

  LS_TARGET inline __attribute__((always_inline)) void load(const Matrix& m, uint64_t k,
                                                            uint64_t n) {
    row_words = m.n / 8;
    at = m.qweight + k * row_words + n / 8;
    for (uint64_t i = 32; i < 64; ++i) ask_for(at, i * row_words);
  }
  LS_TARGET inline __attribute__((always_inline)) __m256i column(uint32_t i) const {
    return awq_octet(at[i * row_words]);
  }
};

/// Groups of the columns as they come, ascending; loads a group's row when it changes.
struct GroupCursor {
  uint64_t current = UINT64_MAX;
  uint64_t end = 0;  // without g_idx: the column where the next group begins
  GroupOctet octet{};

  LS_TARGET inline __attribute__((always_inline)) const GroupOctet& at(const Matrix& m, uint64_t k,
                                                                       uint64_t n) {
    if (m.g_idx == nullptr && k < end) return octet;
    const uint64_t group = m.group_of(k);
    if (m.g_idx == nullptr) end = (group + 1) * m.group_size;
    if (group != current) {
      current = group;
      octet = group_octet(m, group, n);
    }
    return octet;
  }
};

LS_INLINE __m256 value_of(__m256i code, const GroupOctet& group) {
  return _mm256_mul_ps(group.scale, _mm256_cvtepi32_ps(_mm256_sub_epi32(code, group.zero)));
}

/// Whether eight columns from `k`, a multiple of 8, are all in one group.
LS_INLINE bool one_group(const Matrix& m) { return m.g_idx == nullptr && m.group_size % 8 == 0; }

LS_INLINE void transpose8(__m256 v[8]) {
  __m256 a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
    b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
    b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
    b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

// Rows lie in words next to each other, so a tile is as many octets of rows as share cache lines;
// with fewer, a power of two of rows would fetch every line anew for each octet.

/// Rows [n, n+8·kOctets) of the weight.
template <typename Codes, int kOctets>
LS_INLINE void dequantize_tile(const Matrix& m, uint64_t n, float* out) {
  const bool uniform = one_group(m);
  GroupCursor cursors[kOctets];
  for (uint64_t k = 0; k < m.k; k += 32) {
    for (int o = 0; o < kOctets; ++o) {
      const uint64_t row_begin = n + 8 * static_cast<uint64_t>(o);
      Codes codes;
      codes.load(m, k, row_begin);
      for (uint32_t octet = 0; octet < 32; octet += 8) {
        __m256 v[8];
        GroupOctet group = cursors[o].at(m, k + octet, row_begin);
        for (uint32_t i = 0; i < 8; ++i) {
          if (!uniform) group = cursors[o].at(m, k + octet + i, row_begin);
          v[i] = value_of(codes.column(octet + i), group);
        }
        transpose8(v);
        float* to = out + 8 * static_cast<uint64_t>(o) * m.k + k + octet;
        for (uint32_t row = 0; row < 8; ++row) _mm256_storeu_ps(to + row * m.k, v[row]);
      }
    }
  }
}

template <typename Codes>
LS_TARGET void dequantize_rows(const Matrix& m, uint64_t begin, uint64_t count, float* out) {
  uint64_t done = 0;
  for (; done + 32 <= count; done += 32) {
    dequantize_tile<Codes, 4>(m, begin + done, out + done * m.k);
  }
  if (done + 16 <= count) {
    dequantize_tile<Codes, 2>(m, begin + done, out + done * m.k);
    done += 16;
  }
  if (done < count) dequantize_tile<Codes, 1>(m, begin + done, out + done * m.k);
}

/// Rows [n, n+8·kOctets): sums of x·(q - z) over a group, then the scale; groups of whole 32s.
template <typename Codes, int kOctets>
LS_INLINE void multiply_tile(const Matrix& m, uint64_t n, const float* x, float* y) {
  __m256 total[kOctets];
  for (__m256& one : total) one = _mm256_setzero_ps();
  for (uint64_t group = 0; group < m.groups; ++group) {
    const uint64_t first = group * m.group_size;
    const uint64_t last = m.k - first < m.group_size ? m.k : first + m.group_size;
    GroupOctet octets[kOctets];
    __m256 sum[kOctets];
    for (int o = 0; o < kOctets; ++o) {
      octets[o] = group_octet(m, group, n + 8 * static_cast<uint64_t>(o));
      sum[o] = _mm256_setzero_ps();
    }
    for (uint64_t k = first; k < last; k += 32) {
      for (int o = 0; o < kOctets; ++o) {
        Codes codes;
        codes.load(m, k, n + 8 * static_cast<uint64_t>(o));
        __m256 even = sum[o], odd = _mm256_setzero_ps();
        for (uint32_t i = 0; i < 32; i += 2) {
          const __m256i a = _mm256_sub_epi32(codes.column(i), octets[o].zero);
          const __m256i b = _mm256_sub_epi32(codes.column(i + 1), octets[o].zero);
          even = _mm256_fmadd_ps(_mm256_broadcast_ss(x + k + i), _mm256_cvtepi32_ps(a), even);
          odd = _mm256_fmadd_ps(_mm256_broadcast_ss(x + k + i + 1), _mm256_cvtepi32_ps(b), odd);
        }
        sum[o] = _mm256_add_ps(even, odd);
      }
    }
    for (int o = 0; o < kOctets; ++o) {
      total[o] = _mm256_fmadd_ps(octets[o].scale, sum[o], total[o]);
    }
  }
  for (int o = 0; o < kOctets; ++o) _mm256_storeu_ps(y + 8 * o, total[o]);
}

/// Eight rows whose columns change group anywhere.
template <typename Codes>
LS_INLINE void multiply_shuffled(const Matrix& m, uint64_t n, const float* x, float* y) {
  GroupCursor cursor;
  __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
  for (uint64_t k = 0; k < m.k; k += 32) {
    Codes codes;
    codes.load(m, k, n);
    for (uint32_t i = 0; i < 32; i += 2) {
      const __m256 a = value_of(codes.column(i), cursor.at(m, k + i, n));
      even = _mm256_fmadd_ps(_mm256_broadcast_ss(x + k + i), a, even);
      const __m256 b = value_of(codes.column(i + 1), cursor.at(m, k + i + 1, n));
      odd = _mm256_fmadd_ps(_mm256_broadcast_ss(x + k + i + 1), b, odd);
    }
  }
  _mm256_storeu_ps(y, _mm256_add_ps(even, odd));
}

template <typename Codes>
LS_TARGET void multiply_rows(const Matrix& m, uint64_t begin, uint64_t count, const float* x,
                             float* y) {
  uint64_t done = 0;
  if (m.g_idx == nullptr && m.group_size % 32 == 0) {
    for (; done + 64 <= count; done += 64) multiply_tile<Codes, 8>(m, begin + done, x, y + done);
    for (; done + 32 <= count; done += 32) multiply_tile<Codes, 4>(m, begin + done, x, y + done);
    for (; done < count; done += 8) multiply_tile<Codes, 1>(m, begin + done, x, y + done);
    return;
  }
  for (; done < count; done += 8) multiply_shuffled<Codes>(m, begin + done, x, y + done);
}

}  // namespace

void dequantize(const Matrix& m, uint64_t begin, uint64_t count, float* out) {
  if (m.packing == Packing::awq) return dequantize_rows<AwqCodes>(m, begin, count, out);
  switch (m.bits) {
    case 2:
      return dequantize_rows<GptqCodes<2>>(m, begin, count, out);
    case 3:
      return dequantize_rows<GptqCodes<3>>(m, begin, count, out);
    case 4:
      return dequantize_rows<GptqCodes<4>>(m, begin, count, out);
    case 5:
      return dequantize_rows<GptqCodes<5>>(m, begin, count, out);
    case 6:
      return dequantize_rows<GptqCodes<6>>(m, begin, count, out);
    case 7:
      return dequantize_rows<GptqCodes<7>>(m, begin, count, out);
    default:
      return dequantize_rows<GptqCodes<8>>(m, begin, count, out);
  }
}

void multiply(const Matrix& m, uint64_t begin, uint64_t count, const float* x, float* y) {
  if (m.packing == Packing::awq) return multiply_rows<AwqCodes>(m, begin, count, x, y);
  switch (m.bits) {
    case 2:
      return multiply_rows<GptqCodes<2>>(m, begin, count, x, y);
    case 3:
      return multiply_rows<GptqCodes<3>>(m, begin, count, x, y);
    case 4:
      return multiply_rows<GptqCodes<4>>(m, begin, count, x, y);
    case 5:
      return multiply_rows<GptqCodes<5>>(m, begin, count, x, y);
    case 6:
      return multiply_rows<GptqCodes<6>>(m, begin, count, x, y);
    case 7:
      return multiply_rows<GptqCodes<7>>(m, begin, count, x, y);
    default:
      return multiply_rows<GptqCodes<8>>(m, begin, count, x, y);
  }
}

}  // namespace loadstone::int_packs::avx2

#endif
