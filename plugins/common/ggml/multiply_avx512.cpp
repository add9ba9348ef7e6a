// Products straight from four-bit blocks with AVX-512. A permutation looks sixteen codes up in a
// register, by the low four bits of each lane: the register holds the sixteen weights that a scale
// makes of the codes (one rounding for each operation, as the decoders have it), so a weight costs
// a lookup and no arithmetic, and its bits are the decoder's.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/kernels.hpp"
#include "common/kernel.hpp"

namespace loadstone::ggml::avx512 {
namespace {

#define LS_TARGET LOADSTONE_TARGET_AVX512
#define LS_INLINE LS_TARGET static inline __attribute__((always_inline))
#define LS_LAMBDA \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c,bmi2"), always_inline))

constexpr uint64_t kChunk = 1024;  // values whose scales are made at once: whole blocks

LS_INLINE __m512 sixteen_levels(const int8_t* levels) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels));
  return _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, bytes));
}

alignas(16) constexpr int8_t kUnsigned[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
alignas(16) constexpr int8_t kCentred[16] = {-8, -7, -6, -5, -4, -3, -2, -1,
                                             0,  1,  2,  3,  4,  5,  6,  7};

/// A scale of each byte.
template <float (*kScale)(uint32_t)>
struct ByteScales {
  float of[256];
  constexpr ByteScales() : of() {
    for (uint32_t byte = 0; byte < 256; ++byte) of[byte] = kScale(byte);
  }
};
constexpr ByteScales<half_of_e8m0> kHalfOfE8m0;
constexpr ByteScales<half_of_ue4m3> kHalfOfUe4m3;

/// Sixteen bytes, each widened to a lane: its low four bits are one code, the next four another.
LS_INLINE __m512i sixteen_bytes(const uint8_t* at) {
  return _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
LS_INLINE __m512 low_codes(__m512i bytes, __m512 table) {
  return _mm512_maskz_permutexvar_ps(0xffff, bytes, table);
}
LS_INLINE __m512 high_codes(__m512i bytes, __m512 table) {
  return low_codes(_mm512_maskz_srli_epi32(0xffff, bytes, 4), table);
}

/// float16 at the same place in each of `count` blocks, at most 32.
template <uint64_t kNbytes>
LS_INLINE void halves(const uint8_t* at, uint64_t count, float* to) {
  alignas(64) uint16_t bits[32];
  for (uint64_t i = 0; i < count; ++i) {
    bits[i] = static_cast<uint16_t>(load_u16(at + i * kNbytes));
  }
  for (uint64_t i = 0; i < count; i += 16) {
    const __m256i sixteen = _mm256_load_si256(reinterpret_cast<const __m256i*>(bits + i));
    _mm512_store_ps(to + i, _mm512_maskz_cvtph_ps(0xffff, sixteen));
  }
}

/// The scales of a chunk: a pair for each stretch of values that share a table.
struct Scales {
  alignas(64) float scale[kChunk / 16];
  alignas(64) float minus[kChunk / 16];
};

// Each format: the scales of up to a chunk of blocks, and the values of block `i` of them, sixteen
// at a time, handed to `take(where in the block, values)`.

/// 32 values whose first sixteen are low nibbles: Q4_0, Q4_1, IQ4_NL, MXFP4.
struct Halves {
  static constexpr uint64_t kElems = 32;

  template <typename Take>
  LS_INLINE void both(const uint8_t* codes, __m512 table, const Take& take) {
    const __m512i bytes = sixteen_bytes(codes);
    take(0, low_codes(bytes, table));
    take(16, high_codes(bytes, table));
  }
};

template <const int8_t* kLevels>
struct HalfScaled : Halves {
  static constexpr uint64_t kNbytes = 18;
  LS_INLINE void scales(const uint8_t* blocks, uint64_t count, Scales& out) {
    halves<kNbytes>(blocks, count, out.scale);
  }
  template <typename Take>
  LS_INLINE void values(const uint8_t* block, const Scales& s, uint64_t i, const Take& take) {
    const __m512 scale = _mm512_set1_ps(s.scale[i]);
    both(block + 2, _mm512_mul_ps(scale, sixteen_levels(kLevels)), take);
  }
};
using Q4_0 = HalfScaled<kCentred>;
using Iq4Nl = HalfScaled<kIq4Levels>;

struct Q4_1 : Halves {
  static constexpr uint64_t kNbytes = 20;
  LS_INLINE void scales(const uint8_t* blocks, uint64_t count, Scales& out) {
    halves<kNbytes>(blocks, count, out.scale);
    halves<kNbytes>(blocks + 2, count, out.minus);
  }
  template <typename Take>
  LS_INLINE void values(const uint8_t* block, const Scales& s, uint64_t i, const Take& take) {
    const __m512 q = sixteen_levels(kUnsigned);
    const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(s.scale[i]), q);
    both(block + 4, _mm512_add_ps(scaled, _mm512_set1_ps(s.minus[i])), take);
  }
};

struct Mxfp4 : Halves {
  static constexpr uint64_t kNbytes = 17;
  LS_INLINE void scales(const uint8_t* blocks, uint64_t count, Scales& out) {
    for (uint64_t i = 0; i < count; ++i) out.scale[i] = kHalfOfE8m0.of[blocks[i * kNbytes]];
  }
  template <typename Take>
  LS_INLINE void values(const uint8_t* block, const Scales& s, uint64_t i, const Take& take) {
    const __m512 scale = _mm512_set1_ps(s.scale[i]);
    both(block + 1, _mm512_mul_ps(scale, sixteen_levels(kE2m1Doubled)), take);
  }
};

/// Eight runs of 32, each as above.
struct Iq4Xs : Halves {
  static constexpr uint64_t kElems = 256, kNbytes = 136;
  LS_INLINE void scales(const uint8_t* blocks, uint64_t count, Scales& out) {
    for (uint64_t i = 0; i < count; ++i, blocks += kNbytes) {
      const float d = load_half(blocks);
      const uint32_t high = load_u16(blocks + 2), low = load_u32(blocks + 4);
      for (uint32_t sub = 0; sub < 8; ++sub) {
        const uint32_t scale = (low >> 4 * sub & 15u) | (high >> 2 * sub & 3u) << 4;
        out.scale[8 * i + sub] = d * static_cast<float>(static_cast<int>(scale) - 32);
      }
    }
  }
  template <typename Take>
  LS_INLINE void values(const uint8_t* block, const Scales& s, uint64_t i, const Take& take) {
    const __m512 levels = sixteen_levels(kIq4Levels);
    for (uint64_t sub = 0; sub < 8; ++sub) {
      const __m512 scale = _mm512_set1_ps(s.scale[8 * i + sub]);
      both(block + 8 + 16 * sub, _mm512_mul_ps(scale, levels),
           [&](uint64_t at, __m512 w) LS_LAMBDA { take(32 * sub + at, w); });
    }
  }
};

/// Pairs of 32: the low nibbles of 32 bytes, then their high ones.
struct Q4K {
  static constexpr uint64_t kElems = 256, kNbytes = 144;
  LS_INLINE void scales(const uint8_t* blocks, uint64_t count, Scales& out) {
    for (uint64_t i = 0; i < count; ++i, blocks += kNbytes) {
      const __m256 d = _mm256_set1_ps(load_half(blocks));
      const __m256 dmin = _mm256_set1_ps(load_half(blocks + 2));
      uint8_t scale[8], minimum[8];
      unpack_k_scales(blocks + 4, scale, minimum);
      _mm256_store_ps(out.scale + 8 * i, _mm256_mul_ps(d, eight(scale)));
      _mm256_store_ps(out.minus + 8 * i, _mm256_mul_ps(dmin, eight(minimum)));
    }
  }
  template <typename Take>
  LS_INLINE void values(const uint8_t* block, const Scales& s, uint64_t i, const Take& take) {
    for (uint64_t pair = 0; pair < 4; ++pair) {
      const __m512 low = table(s, 8 * i + 2 * pair), high = table(s, 8 * i + 2 * pair + 1);
      for (uint64_t half = 0; half < 2; ++half) {
        const __m512i bytes = sixteen_bytes(block + 16 + 32 * pair + 16 * half);
        take(64 * pair + 16 * half, low_codes(bytes, low));
        take(64 * pair + 32 + 16 * half, high_codes(bytes, high));
      }
    }
  }

 private:
  LS_INLINE __m256 eight(const uint8_t* at) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
  }
  LS_INLINE __m512 table(const Scales& s, uint64_t sub) {
    const __m512 q = sixteen_levels(kUnsigned);
    const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(s.scale[sub]), q);
    return _mm512_sub_ps(scaled, _mm512_set1_ps(s.minus[sub]));
  }
};

/// Four runs of 16 in 8 bytes each: low nibbles, then high ones.
struct Nvfp4 {
  static constexpr uint64_t kElems = 64, kNbytes = 36;
  LS_INLINE void scales(const uint8_t* blocks, uint64_t count, Scales& out) {
    for (uint64_t i = 0; i < count; ++i, blocks += kNbytes) {
      for (uint64_t sub = 0; sub < 4; ++sub) out.scale[4 * i + sub] = kHalfOfUe4m3.of[blocks[sub]];
    }
  }
  template <typename Take>
  LS_INLINE void values(const uint8_t* block, const Scales& s, uint64_t i, const Take& take) {
    const __m512 levels = sixteen_levels(kE2m1Doubled);
    for (uint64_t sub = 0; sub < 4; ++sub) {
      const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + 4 + 8 * sub));
      const __m128i codes = _mm_unpacklo_epi64(low, _mm_srli_epi16(low, 4));
      const __m512 scale = _mm512_set1_ps(s.scale[4 * i + sub]);
      take(16 * sub,
           low_codes(_mm512_maskz_cvtepu8_epi32(0xffff, codes), _mm512_mul_ps(scale, levels)));
    }
  }
};

template <typename Format, uint64_t kRows>
LS_TARGET void multiply_rows(const uint8_t* blocks, uint64_t rows, uint64_t in, const float* x,
                             float* y, uint64_t y_stride) {
  for (uint64_t row = 0; row < rows; ++row) {
    __m512 sum[kRows][2];
    for (auto& pair : sum) pair[0] = pair[1] = _mm512_setzero_ps();
    for (uint64_t k = 0; k < in; k += kChunk) {
      const uint64_t count = std::min(kChunk, in - k) / Format::kElems;
      Scales scales;
      Format::scales(blocks, count, scales);
      for (uint64_t i = 0; i < count; ++i, blocks += Format::kNbytes) {
        const float* of_x = x + k + i * Format::kElems;
        common::read_ahead(blocks);
        if constexpr (Format::kNbytes > 64) common::read_ahead(blocks + 64);
        if constexpr (Format::kNbytes > 128) common::read_ahead(blocks + 128);
        Format::values(blocks, scales, i, [&](uint64_t at, __m512 w) LS_LAMBDA {
          for (uint64_t m = 0; m < kRows; ++m) {
            __m512& own = sum[m][at / 16 % 2];
            own = _mm512_fmadd_ps(w, _mm512_loadu_ps(of_x + m * in + at), own);
          }
        });
      }
    }
    for (uint64_t m = 0; m < kRows; ++m) {
      y[m * y_stride + row] = _mm512_reduce_add_ps(_mm512_add_ps(sum[m][0], sum[m][1]));
    }
  }
}

template <typename Format>
Multiply of_rows(uint64_t m) {
  constexpr Multiply kByRows[] = {multiply_rows<Format, 1>, multiply_rows<Format, 2>,
                                  multiply_rows<Format, 3>, multiply_rows<Format, 4>};
  return kByRows[m - 1];
}

}  // namespace

Multiply multiplier(Type type, uint64_t m) {
  switch (type) {
    case kQ4_0:
      return of_rows<Q4_0>(m);
    case kQ4_1:
      return of_rows<Q4_1>(m);
    case kIQ4_NL:
      return of_rows<Iq4Nl>(m);
    case kMXFP4:
      return of_rows<Mxfp4>(m);
    case kIQ4_XS:
      return of_rows<Iq4Xs>(m);
    case kQ4_K:
      return of_rows<Q4K>(m);
    case kNVFP4:
      return of_rows<Nvfp4>(m);
    default:
      return nullptr;
  }
}

}  // namespace loadstone::ggml::avx512

#endif
