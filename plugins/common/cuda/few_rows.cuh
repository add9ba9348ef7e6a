// Batches of 4-bit words in gptq's order times a few rows of x on tensor cores: what a warp does.
// Private to few_rows.cu.
#pragma once

#include "common/cuda/mma.cuh"
#include "common/cuda/packs.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda::few {

constexpr int kBand = 32;  // rows of W a warp: four a lane, the same four for four lanes
constexpr int kStep = 32;  // columns that a word of each of a lane's rows covers
constexpr int kSteps = 4;  // of a batch
constexpr int kBatch = kStep * kSteps;

/// Two whole numbers as T: a code under a power of two's exponent, less that and the zero point.
template <typename T>
struct Whole;
template <>
struct Whole<__half> {
  static constexpr uint32_t kBase = 0x64006400u;  // 1024
  __device__ static uint32_t less(uint32_t a, uint32_t b) {
    const __half2 out =
        __hsub2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
    return *reinterpret_cast<const uint32_t*>(&out);
  }
};
template <>
struct Whole<__nv_bfloat16> {
  static constexpr uint32_t kBase = 0x43004300u;  // 128
  __device__ static uint32_t less(uint32_t a, uint32_t b) {
    const __nv_bfloat162 out = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&a),
                                       *reinterpret_cast<const __nv_bfloat162*>(&b));
    return *reinterpret_cast<const uint32_t*>(&out);
  }
};

/// Nibbles 0 and 4 under `base`, in one instruction, which the compiler makes two of.
__device__ inline uint32_t two_codes(uint32_t word, uint32_t base) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(word), "r"(0x000f000fu), "r"(base));
  return out;
}

/// Bytes that are read once and don't change; issued where it stands, in front of any arithmetic.
__device__ inline uint4 load_16(const void* at) {
  uint4 out;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "l"(at));
  return out;
}
__device__ inline uint2 load_8(const void* at) {
  uint2 out;
  asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(out.x), "=r"(out.y) : "l"(at));
  return out;
}
__device__ inline uint32_t load_4(const void* at) {
  uint32_t out;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(out) : "l"(at));
  return out;
}

/// Four scales as they are stored: F32, or two bytes each.
template <bool wide>
struct Scales;
template <>
struct Scales<true> {
  uint4 raw;
  __device__ void load(const void* at) { raw = load_16(at); }
  __device__ void values(uint32_t, float (&out)[4]) const {
    out[0] = __uint_as_float(raw.x);
    out[1] = __uint_as_float(raw.y);
    out[2] = __uint_as_float(raw.z);
    out[3] = __uint_as_float(raw.w);
  }
};
template <>
struct Scales<false> {
  uint2 raw;
  __device__ void load(const void* at) { raw = load_8(at); }
  __device__ void values(uint32_t dtype, float (&out)[4]) const {
    if (dtype == LS_DTYPE_BF16) {
      out[0] = __uint_as_float(raw.x << 16);
      out[1] = __uint_as_float(raw.x & 0xffff0000u);
      out[2] = __uint_as_float(raw.y << 16);
      out[3] = __uint_as_float(raw.y & 0xffff0000u);
    } else {
      const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&raw.x));
      const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&raw.y));
      out[0] = a.x, out[1] = a.y, out[2] = b.x, out[3] = b.y;
    }
  }
};

/// What a lane reads of 128 columns, G pieces that each lie in one group: word `lane % 4` of four
/// of each step, of four rows of W.
template <bool wide, int G>
struct Batch {
  uint4 words[kSteps];
  Scales<wide> scales[G];
  uint32_t zeros[G];
};

/// Sums of a lane: [row pair][rows of x / 8][as mma lays them].
template <int MT>
using Sums = float[2][MT][4];

/// A warp's band of W from row n, as its lanes read it.
template <bool wide, int G>
class Band {
 public:
  __device__ Band(const int_packs::Matrix& w, uint64_t n, uint32_t lane) {
    const uint64_t own = n + lane / 4 * 4;
    const auto columns = static_cast<uint32_t>(w.n);
    words_ = reinterpret_cast<const char*>(w.qweight + lane % 4 * w.n + own);
    scales_ = static_cast<const char*>(w.scales) + own * kScale;
    zeros_ = reinterpret_cast<const char*>(w.qzeros + own / 8);
    step_nbytes_ = columns * 16;
    scale_nbytes_ = columns * kScale;
    zero_nbytes_ = columns / 2;
    zero_shift_ = 4 * (own % 8);
    inverse_ = 1.0f / static_cast<float>(w.group_size / kStep);
    steps_ = static_cast<uint32_t>(w.k / kStep);
  }

  /// Beyond the last column: the last words again, under x = 0, and scales of 0.
  __device__ void load(uint32_t batch, Batch<wide, G>& to) const {
    const uint32_t first = batch * kSteps;
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i) {
      to.words[i] = load_16(words_ + uint64_t{min(first + i, steps_ - 1)} * step_nbytes_);
    }
#pragma unroll
    for (uint32_t g = 0; g < G; ++g) {
      const uint32_t step = first + g * (kSteps / G);
      const uint32_t group = group_of(min(step, steps_ - 1));
      to.scales[g].load(scales_ + uint64_t{group} * scale_nbytes_);
      to.zeros[g] = load_4(zeros_ + uint64_t{group} * zero_nbytes_);
      if (step >= steps_) to.scales[g] = {};
    }
  }

  __device__ uint32_t zero_shift() const { return zero_shift_; }

 private:
  static constexpr uint32_t kScale = wide ? 4 : 2;  // bytes

  /// Exact below 2^22 steps.
  __device__ uint32_t group_of(uint32_t step) const {
    return static_cast<uint32_t>((static_cast<float>(step) + 0.5f) * inverse_);
  }

  const char *words_, *scales_, *zeros_;
  uint32_t step_nbytes_, scale_nbytes_, zero_nbytes_, zero_shift_, steps_;
  float inverse_;
};

/// 8 columns of x as a step multiplies them: nibbles j and j + 4 share a register of the words'.
__device__ inline uint4 in_nibble_order(const uint4& x) {
  return make_uint4(__byte_perm(x.x, x.z, 0x5410), __byte_perm(x.x, x.z, 0x7632),
                    __byte_perm(x.y, x.w, 0x5410), __byte_perm(x.y, x.w, 0x7632));
}

/// 32 columns. x: (MT, 32 lanes) in nibble order; zero: of the lane's rows, under
/// kBase.
template <typename T, int MT>
__device__ inline void multiply_step(const uint4& words, const uint32_t (&zero)[4], const uint4* x,
                                     Sums<MT>& sums) {
  uint4 b[MT];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) b[mt] = x[mt * 32];
  const uint32_t rows[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // row of the pair: i % 2; nibbles: 2·half + i / 2
        const int row = 2 * pair + i % 2;
        const uint32_t codes = two_codes(rows[row] >> 4 * (2 * half + i / 2), Whole<T>::kBase);
        a[i] = Whole<T>::less(codes, zero[row]);
      }
#pragma unroll
      for (int mt = 0; mt < MT; ++mt) {
        mma_16816<T>(sums[pair][mt], a, half == 0 ? b[mt].x : b[mt].z,
                     half == 0 ? b[mt].y : b[mt].w);
      }
    }
  }
}

/// total += a batch times x: (steps, MT, 32 lanes), the lane's own first.
template <typename T, int MT, bool wide, int G>
__device__ inline void multiply(const int_packs::Matrix& w, const Batch<wide, G>& batch,
                                uint32_t zero_shift, const uint4* x, Sums<MT>& total) {
#pragma unroll
  for (int g = 0; g < G; ++g) {
    uint32_t zero[4];
    float scale[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t level = (batch.zeros[g] >> (zero_shift + 4 * i) & 15u) + w.zero_bias;
      zero[i] = Whole<T>::kBase + level * 0x00010001u;
    }
    batch.scales[g].values(w.scale_dtype, scale);
    Sums<MT> sums = {};
#pragma unroll
    for (int i = g * (kSteps / G); i < (g + 1) * (kSteps / G); ++i) {
      multiply_step<T, MT>(batch.words[i], zero, x + i * MT * 32, sums);
    }
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
      for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = total[pair][mt][i];
          sum = __fmaf_rn(scale[2 * pair + i / 2], sums[pair][mt][i], sum);
        }
      }
    }
  }
}

}  // namespace loadstone::common::cuda::few
