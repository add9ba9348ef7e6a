// Products of codes of at most four bits with AVX-512. A permutation looks sixteen codes up by the
// low four bits of each lane, so nothing is masked or converted: a weight costs a shift, a lookup
// of q - z as a float and a multiply-add. Sums run over a group, then the group's scale.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>
#include <utility>
#include <vector>

#include "common/int_packs/kernels.hpp"

namespace loadstone::int_packs::avx512 {
namespace {

#define LS_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")))
#define LS_LAMBDA \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2"), always_inline))
#define LS_INLINE LS_TARGET static inline __attribute__((always_inline))

constexpr __mmask16 kAll = 0xffff;

/// body(0), body(1), …: shifts are constants, whatever a compiler thinks of the loop.
template <typename Body, uint32_t... kI>
LS_INLINE void unrolled(std::integer_sequence<uint32_t, kI...>, const Body& body) {
  (body(kI), ...);
}

/// Float `i`: i & (2^bits - 1), whatever lies above a code in its four bits.
LS_INLINE __m512 levels_of(uint32_t bits) {
  const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i mask = _mm512_set1_epi32((1 << bits) - 1);
  return _mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_and_epi32(kAll, index, mask));
}
LS_INLINE __m512 look_up(__m512i codes, __m512 table) {
  return _mm512_maskz_permutexvar_ps(kAll, codes, table);
}
LS_INLINE __m512i right(__m512i words, uint32_t by) {
  return _mm512_maskz_srli_epi32(kAll, words, by);
}

LS_INLINE __m512 sixteen_scales(const Matrix& m, uint64_t at) {
  if (m.scale_dtype == LS_DTYPE_F32)
    return _mm512_loadu_ps(static_cast<const float*>(m.scales) + at);
  const auto* half = static_cast<const uint16_t*>(m.scales) + at;
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half));
  if (m.scale_dtype != LS_DTYPE_BF16) return _mm512_maskz_cvtph_ps(kAll, bits);
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(kAll, bits);
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, wide, 16));
}

/// Asks for a row of words that comes some steps later: rows lie apart, and no processor runs ahead
/// there.
LS_INLINE void ask_for(const uint32_t* at, uint64_t words) {
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(at) + 4 * words),
               _MM_HINT_T0);
}

/// The group's zero points for the tiles of one call, as floats. Where they are all one number it
/// goes into the table; else it is taken off each weight.
template <int kTiles>
struct Zeros {
  __m512 of[kTiles];
  __m512 table;
  bool uniform;

  LS_TARGET inline __attribute__((always_inline)) void finish(uint32_t bits, uint32_t bias) {
    const __m512 add = _mm512_set1_ps(static_cast<float>(bias));
    for (__m512& one : of) one = _mm512_add_ps(one, add);
    const __m512 first = _mm512_broadcastss_ps(_mm512_castps512_ps128(of[0]));
    __mmask16 differ = 0;
    for (const __m512& one : of) {
      differ = static_cast<__mmask16>(differ | _mm512_cmp_ps_mask(one, first, _CMP_NEQ_UQ));
    }
    uniform = differ == 0;
    table = uniform ? _mm512_sub_ps(levels_of(bits), first) : levels_of(bits);
  }
};

// ---- gptq: sixteen rows of the weight a tile, a word holds columns of one row ----

template <uint32_t kBits, int kTiles>
LS_INLINE void gptq_zeros(const Matrix& m, uint64_t group, uint64_t n, Zeros<kTiles>& out) {
  // Sixteen values begin on a byte: even ones from the low dword of a lane, odd ones from the high.
  const uint32_t* row = m.qzeros + group * (m.n * kBits / 32);
  const __m512i pairs = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i even = _mm512_maskz_mul_epu32(0xff, pairs, _mm512_set1_epi64(kBits));
  const __m512i odd = _mm512_add_epi64(even, _mm512_set1_epi64(kBits));
  for (int tile = 0; tile < kTiles; ++tile) {
    uint64_t packed = 0;
    const uint64_t at = (n + 16 * static_cast<uint64_t>(tile)) * kBits / 8;
    std::memcpy(&packed, reinterpret_cast<const char*>(row) + at, 2 * kBits);
    const __m512i all = _mm512_set1_epi64(static_cast<int64_t>(packed));
    const __m512i low = _mm512_maskz_srlv_epi64(0xff, all, even);
    const __m512i high = _mm512_maskz_slli_epi64(0xff, _mm512_maskz_srlv_epi64(0xff, all, odd), 32);
    const __m512i codes = _mm512_mask_blend_epi32(0xaaaa, low, high);
    out.of[tile] = look_up(codes, levels_of(kBits));
  }
  out.finish(kBits, m.zero_bias);
}

/// Column `i` of 32, its code in the low bits.
template <uint32_t kBits>
LS_INLINE __m512i gptq_column(const __m512i (&words)[kBits], uint32_t i) {
  const uint32_t word = i * kBits / 32, shift = i * kBits % 32;
  const __m512i low = shift == 0 ? words[word] : right(words[word], shift);
  if (shift + kBits <= 32) return low;
  return _mm512_or_si512(low, _mm512_maskz_slli_epi32(kAll, words[word + 1], 32 - shift));
}

/// 32 columns from `k`.
template <uint32_t kBits, int kTiles, bool kUniform>
LS_INLINE void gptq_step(const Matrix& m, uint64_t k, uint64_t n, const float* x,
                         const Zeros<kTiles>& zeros, __m512 (&sum)[kTiles]) {
  constexpr uint64_t kAhead = 4;  // steps
  const uint32_t* at = m.qweight + k / 32 * kBits * m.n + n;
  for (int tile = 0; tile < kTiles; ++tile) {
    __m512i words[kBits];
    for (uint32_t w = 0; w < kBits; ++w) {
      words[w] = _mm512_loadu_si512(at + w * m.n + 16 * tile);
      ask_for(at, (kAhead * kBits + w) * m.n + 16 * static_cast<uint64_t>(tile));
    }
    __m512 even = sum[tile], odd = _mm512_setzero_ps();
    const auto value = [&](uint32_t i) LS_LAMBDA {
      const __m512 level = look_up(gptq_column<kBits>(words, i), zeros.table);
      return kUniform ? level : _mm512_sub_ps(level, zeros.of[tile]);
    };
    unrolled(std::make_integer_sequence<uint32_t, 32>(), [&](uint32_t i) LS_LAMBDA {
      __m512& own = i % 2 == 0 ? even : odd;
      own = _mm512_fmadd_ps(value(i), _mm512_set1_ps(x[k + i]), own);
    });
    sum[tile] = _mm512_add_ps(even, odd);
  }
}

/// Rows [n, n+16·kTiles).
template <uint32_t kBits, int kTiles>
LS_TARGET void gptq_tiles(const Matrix& m, uint64_t n, const float* x, float* y) {
  __m512 total[kTiles];
  for (__m512& one : total) one = _mm512_setzero_ps();
  for (uint64_t group = 0; group < m.groups; ++group) {
    const uint64_t first = group * m.group_size;
    const uint64_t last = m.k - first < m.group_size ? m.k : first + m.group_size;
    Zeros<kTiles> zeros;
    gptq_zeros<kBits>(m, group, n, zeros);
    __m512 sum[kTiles];
    for (__m512& one : sum) one = _mm512_setzero_ps();
    if (zeros.uniform) {
      for (uint64_t k = first; k < last; k += 32) {
        gptq_step<kBits, kTiles, true>(m, k, n, x, zeros, sum);
      }
    } else {
      for (uint64_t k = first; k < last; k += 32) {
        gptq_step<kBits, kTiles, false>(m, k, n, x, zeros, sum);
      }
    }
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint64_t at = group * m.n + n + 16 * static_cast<uint64_t>(tile);
      total[tile] = _mm512_fmadd_ps(sixteen_scales(m, at), sum[tile], total[tile]);
    }
  }
  for (int tile = 0; tile < kTiles; ++tile) _mm512_storeu_ps(y + 16 * tile, total[tile]);
}

// Columns in no order (g_idx), or in groups that aren't whole 32s: each group's sum lies in memory,
// where the next of its columns finds it.

/// Whole cache lines for `floats` floats; one thread's, grown once.
float* lines_of(uint64_t floats) {
  static thread_local std::vector<float> room;
  if (room.size() < floats + 16) room.resize(floats + 16);
  const auto at = reinterpret_cast<uintptr_t>(room.data());
  return room.data() + (64 - at % 64) % 64 / sizeof(float);
}

/// What a code in the low bits means, before its zero point; up to four bits by the table.
template <uint32_t kBits>
LS_INLINE __m512 level_of(__m512i codes, __m512 table) {
  if constexpr (kBits <= 4) return look_up(codes, table);
  const __m512i mask = _mm512_set1_epi32((1 << kBits) - 1);
  return _mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_and_epi32(kAll, codes, mask));
}

/// A group's zero points for the tiles: eight of them are kBits bytes.
template <uint32_t kBits, int kTiles>
LS_INLINE void store_zeros(const Matrix& m, uint64_t group, uint64_t n, float* out) {
  const char* row = reinterpret_cast<const char*>(m.qzeros + group * (m.n * kBits / 32));
  const __m512i eight = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  const __m512i shifts = _mm512_maskz_mul_epu32(0xff, eight, _mm512_set1_epi64(kBits));
  const __m512i mask = _mm512_set1_epi64((1 << kBits) - 1);
  const __m256i bias = _mm256_set1_epi32(static_cast<int>(m.zero_bias));
  for (uint64_t at = 0; at < 16 * kTiles; at += 8) {
    uint64_t packed = 0;
    std::memcpy(&packed, row + (n + at) / 8 * kBits, kBits);
    const __m512i all = _mm512_set1_epi64(static_cast<int64_t>(packed));
    const __m512i codes =
        _mm512_maskz_and_epi64(0xff, _mm512_maskz_srlv_epi64(0xff, all, shifts), mask);
    const __m256i zeros = _mm256_add_epi32(_mm512_maskz_cvtepi64_epi32(0xff, codes), bias);
    _mm256_store_ps(out + at, _mm256_cvtepi32_ps(zeros));
  }
}

/// Rows [n, n+16·kTiles).
template <uint32_t kBits, int kTiles>
LS_TARGET void gptq_scattered(const Matrix& m, uint64_t n, const float* x, float* y) {
  constexpr uint64_t kRows = 16 * kTiles;
  float* sums = lines_of(2 * m.groups * kRows);
  float* zeros = sums + m.groups * kRows;
  std::memset(sums, 0, m.groups * kRows * sizeof(float));
  for (uint64_t group = 0; group < m.groups; ++group) {
    store_zeros<kBits, kTiles>(m, group, n, zeros + group * kRows);
  }
  const __m512 levels = levels_of(kBits);
  for (uint64_t k = 0; k < m.k; k += 32) {
    uint64_t at[32];
    for (uint64_t i = 0; i < 32; ++i) at[i] = m.group_of(k + i) * kRows;
    const uint32_t* packed = m.qweight + k / 32 * kBits * m.n + n;
    for (int t = 0; t < kTiles; ++t) {
      __m512i words[kBits];
      for (uint32_t w = 0; w < kBits; ++w) {
        words[w] = _mm512_loadu_si512(packed + w * m.n + 16 * t);
        ask_for(packed, (4 * kBits + w) * m.n + 16 * static_cast<uint64_t>(t));
      }
      unrolled(std::make_integer_sequence<uint32_t, 32>(), [&](uint32_t i) LS_LAMBDA {
        const __m512 zero = _mm512_load_ps(zeros + at[i] + 16 * t);
        const __m512 value =
            _mm512_sub_ps(level_of<kBits>(gptq_column<kBits>(words, i), levels), zero);
        float* sum = sums + at[i] + 16 * t;
        _mm512_store_ps(sum, _mm512_fmadd_ps(value, _mm512_set1_ps(x[k + i]), _mm512_load_ps(sum)));
      });
    }
  }
  for (int t = 0; t < kTiles; ++t) {
    __m512 total = _mm512_setzero_ps();
    for (uint64_t group = 0; group < m.groups; ++group) {
      const __m512 scale = sixteen_scales(m, group * m.n + n + 16 * static_cast<uint64_t>(t));
      total = _mm512_fmadd_ps(scale, _mm512_load_ps(sums + group * kRows + 16 * t), total);
    }
    _mm512_storeu_ps(y + 16 * t, total);
  }
}

template <uint32_t kBits>
uint64_t scattered_rows(const Matrix& m, uint64_t begin, uint64_t count, const float* x, float* y) {
  uint64_t done = 0;
  for (; done + 64 <= count; done += 64) gptq_scattered<kBits, 4>(m, begin + done, x, y + done);
  for (; done + 32 <= count; done += 32) gptq_scattered<kBits, 2>(m, begin + done, x, y + done);
  return done;
}

/// Above four bits: only what has no order, the rest is AVX2's.
template <uint32_t kBits>
uint64_t wide_rows(const Matrix& m, uint64_t begin, uint64_t count, const float* x, float* y) {
  const bool ordered = m.g_idx == nullptr && m.group_size % 32 == 0;
  return ordered ? 0 : scattered_rows<kBits>(m, begin, count, x, y);
}

template <uint32_t kBits>
uint64_t gptq_rows(const Matrix& m, uint64_t begin, uint64_t count, const float* x, float* y) {
  uint64_t done = 0;
  if (m.g_idx != nullptr || m.group_size % 32 != 0)
    return scattered_rows<kBits>(m, begin, count, x, y);
  for (; done + 128 <= count; done += 128) gptq_tiles<kBits, 8>(m, begin + done, x, y + done);
  for (; done + 32 <= count; done += 32) gptq_tiles<kBits, 2>(m, begin + done, x, y + done);
  return done;
}

// ---- awq: sixteen words of one column, nibble p of each a tile of every eighth row ----

constexpr int kAwqTiles = 8;
/// The row, of eight, that nibble p is of.
constexpr int kAwqRow[kAwqTiles] = {0, 2, 4, 6, 1, 3, 5, 7};

/// Row 8c + r of 128 is lane c of tile r; then lane (8c + r) % 16 of vector (8c + r) / 16.
LS_INLINE void in_row_order(const __m512 (&tiles)[kAwqTiles], __m512 (&out)[8]) {
  alignas(64) float rows[128];
  const __m512i step =
      _mm512_setr_epi32(0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120);
  for (int r = 0; r < kAwqTiles; ++r) _mm512_i32scatter_ps(rows + r, step, tiles[r], 4);
  for (int i = 0; i < 8; ++i) out[i] = _mm512_load_ps(rows + 16 * i);
}

template <bool kUniform>
LS_INLINE void awq_columns(const Matrix& m, const uint32_t* at, __mmask16 words, const float* x,
                           uint64_t count, const Zeros<kAwqTiles>& zeros,
                           __m512 (&sum)[kAwqTiles]) {
  constexpr uint64_t kAhead = 16;  // columns
  const uint64_t stride = m.n / 8;
  for (uint64_t k = 0; k < count; ++k, at += stride) {
    const __m512i word = _mm512_maskz_loadu_epi32(words, at);
    ask_for(at, kAhead * stride);
    const __m512 of_x = _mm512_set1_ps(x[k]);
    unrolled(std::make_integer_sequence<uint32_t, kAwqTiles>(), [&](uint32_t p) LS_LAMBDA {
      const int tile = kAwqRow[p];
      __m512 value = look_up(p == 0 ? word : right(word, 4 * p), zeros.table);
      if constexpr (!kUniform) value = _mm512_sub_ps(value, zeros.of[tile]);
      sum[tile] = _mm512_fmadd_ps(value, of_x, sum[tile]);
    });
  }
}

/// Rows [n, n+count), at most 128.
LS_TARGET void awq_tiles(const Matrix& m, uint64_t n, uint64_t count, const float* x, float* y) {
  const auto words = static_cast<__mmask16>((1u << count / 8) - 1);
  __m512 total[8];
  for (__m512& one : total) one = _mm512_setzero_ps();
  for (uint64_t group = 0; group < m.groups; ++group) {
    const uint64_t first = group * m.group_size;
    const uint64_t last = m.k - first < m.group_size ? m.k : first + m.group_size;
    Zeros<kAwqTiles> zeros;
    const __m512i packed = _mm512_maskz_loadu_epi32(words, m.qzeros + group * (m.n / 8) + n / 8);
    for (uint32_t p = 0; p < kAwqTiles; ++p) {
      zeros.of[kAwqRow[p]] = look_up(right(packed, 4 * p), levels_of(4));
    }
    zeros.finish(4, m.zero_bias);
    __m512 sum[kAwqTiles];
    for (__m512& one : sum) one = _mm512_setzero_ps();
    const uint32_t* at = m.qweight + first * (m.n / 8) + n / 8;
    if (zeros.uniform) {
      awq_columns<true>(m, at, words, x + first, last - first, zeros, sum);
    } else {
      awq_columns<false>(m, at, words, x + first, last - first, zeros, sum);
    }
    __m512 rows[8];
    in_row_order(sum, rows);
    for (uint64_t i = 0; i < count / 16; ++i) {
      const __m512 scale = sixteen_scales(m, group * m.n + n + 16 * i);
      total[i] = _mm512_fmadd_ps(scale, rows[i], total[i]);
    }
  }
  for (uint64_t i = 0; i < count / 16; ++i) _mm512_storeu_ps(y + 16 * i, total[i]);
}

uint64_t awq_rows(const Matrix& m, uint64_t begin, uint64_t count, const float* x, float* y) {
  const uint64_t whole = count / 16 * 16;
  for (uint64_t done = 0; done < whole; done += 128) {
    awq_tiles(m, begin + done, whole - done < 128 ? whole - done : 128, x, y + done);
  }
  return whole;
}

}  // namespace

uint64_t multiply(const Matrix& m, uint64_t begin, uint64_t count, const float* x, float* y) {
  if (m.packing == Packing::awq) {
    const bool whole = m.g_idx == nullptr && m.group_size % 32 == 0;
    return whole ? awq_rows(m, begin, count, x, y) : 0;
  }
  if (begin % 16 != 0) return 0;
  switch (m.bits) {
    case 2:
      return gptq_rows<2>(m, begin, count, x, y);
    case 3:
      return gptq_rows<3>(m, begin, count, x, y);
    case 4:
      return gptq_rows<4>(m, begin, count, x, y);
    case 5:
      return wide_rows<5>(m, begin, count, x, y);
    case 6:
      return wide_rows<6>(m, begin, count, x, y);
    case 7:
      return wide_rows<7>(m, begin, count, x, y);
    default:
      return wide_rows<8>(m, begin, count, x, y);
  }
}

}  // namespace loadstone::int_packs::avx512

#endif
