#include <type_traits>

#include "common/cuda/packs.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

using int_packs::Matrix;
using int_packs::Packing;

constexpr int kThreads = 256;
constexpr int kRun = 8;  // columns a thread decodes

/// int_packs/stream.hpp
__device__ uint32_t stream_value(const uint32_t* words, uint64_t stride, uint64_t index,
                                 uint32_t bits) {
  const uint64_t bit = index * bits;
  const uint32_t shift = static_cast<uint32_t>(bit % 32);
  uint64_t value = words[bit / 32 * stride] >> shift;
  if (shift + bits > 32) {
    value |= static_cast<uint64_t>(words[(bit / 32 + 1) * stride]) << (32 - shift);
  }
  return static_cast<uint32_t>(value) & ((1u << bits) - 1);
}

/// Column 8c + j lies in nibble 4·(j % 2) + j / 2.
__device__ uint32_t awq_value(const uint32_t* row, uint64_t n) {
  const uint32_t j = static_cast<uint32_t>(n % 8);
  return row[n / 8] >> (16 * (j % 2) + 4 * (j / 2)) & 15u;
}

__device__ int level_at(const Matrix& w, uint64_t k, uint64_t group, uint64_t n) {
  const uint32_t* zeros = w.qzeros + group * (w.n * w.bits / 32);
  const bool awq = w.packing == Packing::awq;
  const uint32_t code =
      awq ? awq_value(w.qweight + k * (w.n / 8), n) : stream_value(w.qweight + n, w.n, k, w.bits);
  const uint32_t zero = awq ? awq_value(zeros, n) : stream_value(zeros, 1, n, w.bits);
  return static_cast<int>(code) - static_cast<int>(zero + w.zero_bias);
}

/// A warp: 8 rows of W by 4 runs of 8 columns, so that words and values are whole sectors.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const __grid_constant__ Matrix w, uint64_t begin, uint64_t count, T* out) {
  const uint32_t lane = threadIdx.x % 32;
  const uint64_t row = (blockIdx.x * uint64_t{kThreads / 32} + threadIdx.x / 32) * 8 + lane / 4;
  if (row >= count) return;
  const uint64_t n = begin + row;
  for (uint64_t k = (blockIdx.y * uint64_t{4} + lane % 4) * kRun; k < w.k;
       k += uint64_t{gridDim.y} * 4 * kRun) {
    Pack<T, kRun> values;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const uint64_t group =
          w.g_idx != nullptr ? static_cast<uint64_t>(w.g_idx[k + i]) : (k + i) / w.group_size;
      const float scale = float_at(w.scales, w.scale_dtype, group * w.n + n);
      values.at[i] = from_float<T>(scale * static_cast<float>(level_at(w, k + i, group, n)));
    }
    *reinterpret_cast<Pack<T, kRun>*>(out + row * w.k + k) = values;
  }
}

/// The same of 4 bits in gptq's order, a run's columns in one group: one word a run.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    decode_words(const __grid_constant__ Matrix w, uint64_t begin, uint64_t count, T* out) {
  constexpr int kRuns = 4;  // of a thread, read before the first is used
  const uint32_t lane = threadIdx.x % 32;
  const uint64_t row = (blockIdx.x * uint64_t{kThreads / 32} + threadIdx.x / 32) * 8 + lane / 4;
  if (row >= count) return;
  const uint64_t n = begin + row;
  const auto runs = static_cast<uint32_t>(w.k / kRun);
  const auto runs_a_group = static_cast<uint32_t>(w.group_size / kRun);
  const uint32_t first = blockIdx.y * 4 * kRuns + lane % 4;
  uint32_t words[kRuns], zeros[kRuns];
  float scales[kRuns];
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const uint32_t run = first + 4 * i;
    if (run >= runs) continue;
    const uint32_t group = run / runs_a_group;
    words[i] = w.qweight[run * w.n + n];
    zeros[i] = w.qzeros[group * (w.n / 8) + n / 8];
    scales[i] = float_at(w.scales, w.scale_dtype, group * w.n + n);
  }
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const uint32_t run = first + 4 * i;
    if (run >= runs) continue;
    const int zero = static_cast<int>((zeros[i] >> 4 * (n % 8) & 15u) + w.zero_bias);
    Pack<T, kRun> values;
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      const int code = static_cast<int>(words[i] >> 4 * j & 15u);
      values.at[j] = from_float<T>(scales[i] * static_cast<float>(code - zero));
    }
    *reinterpret_cast<Pack<T, kRun>*>(out + row * w.k + uint64_t{run} * kRun) = values;
  }
}

bool is_four_bits(const Matrix& w) {
  return w.packing == Packing::gptq && w.bits == 4 && w.g_idx == nullptr;
}

// ---- a few rows of x ----

constexpr int kColumns = 32;  // rows of W a block
constexpr int kMostWarps = 16;

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

/// c (16, 8) += a (16, 16)·b (16, 8)
template <typename T>
__device__ void product(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

/// What a lane knows of a group: of its four rows of W, the scales and the zero points under kBase.
template <typename T>
struct Group {
  float scale[4];
  uint32_t zero[4];

  __device__ Group(const Matrix& w, uint64_t group, uint64_t n) {
    const uint32_t zeros = w.qzeros[group * (w.n / 8) + n / 8] >> 4 * (n % 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scale[i] = float_at(w.scales, w.scale_dtype, group * w.n + n + i);
      const uint32_t level = (zeros >> 4 * i & 15u) + w.zero_bias;
      zero[i] = Whole<T>::kBase + (level << 16 | level);
    }
  }
};

/// Sums of a lane: [row pair][rows of x / 8][as mma lays them].
template <int MT>
using Sums = float[2][MT][4];

/// 32 columns: a lane holds word `quad` of four of four rows of W, 8 columns each. Column order
/// within the step is the nibbles', the same for x.
template <typename T, int MT>
__device__ void multiply_step(const FewRows& c, const uint4& words, const Group<T>& group,
                              uint64_t k, uint32_t lane, Sums<MT>& sums) {
  uint32_t b[MT][4];
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
    const uint64_t row = lane / 4 + 8 * mt;
    uint4 x = make_uint4(0, 0, 0, 0);
    if (row < c.m) {
      x = *reinterpret_cast<const uint4*>(static_cast<const T*>(c.x) + row * c.x_stride + k +
                                          8 * (lane % 4));
    }
    b[mt][0] = __byte_perm(x.x, x.z, 0x5410);  // columns 0 and 4
    b[mt][1] = __byte_perm(x.x, x.z, 0x7632);
    b[mt][2] = __byte_perm(x.y, x.w, 0x5410);
    b[mt][3] = __byte_perm(x.y, x.w, 0x7632);
  }
  const uint32_t rows[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // row of the pair: i % 2; nibbles: 2·half + i / 2
        const int row = 2 * pair + i % 2;
        const uint32_t codes = rows[row] >> 4 * (2 * half + i / 2) & 0x000f000fu;
        a[i] = Whole<T>::less(codes | Whole<T>::kBase, group.zero[row]);
      }
#pragma unroll
      for (int mt = 0; mt < MT; ++mt) {
        product<T>(sums[pair][mt], a, {b[mt][2 * half], b[mt][2 * half + 1]});
      }
    }
  }
}

/// total += scale · sums; sums = 0
template <typename T, int MT>
__device__ void scale_sums(const Group<T>& group, Sums<MT>& sums, Sums<MT>& total) {
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total[pair][mt][i] += group.scale[2 * pair + i / 2] * sums[pair][mt][i];
        sums[pair][mt][i] = 0;
      }
    }
  }
}

/// A block: 32 rows of W; its warps share the columns, each a run of U · 32 at a time, whose words
/// are read while the last run's are multiplied.
template <typename T, int MT, int U>
__global__ void __launch_bounds__(kMostWarps * 32)
    few_rows_kernel(const __grid_constant__ FewRows c) {
  __shared__ float parts[kMostWarps][kColumns][8 * MT + 1];
  const Matrix& w = c.w;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const uint64_t n = blockIdx.x * uint64_t{kColumns} + lane / 4 * 4;
  const auto runs = static_cast<uint32_t>(w.k / (32 * U));
  const auto runs_a_group = static_cast<uint32_t>(w.group_size / (32 * U));
  const uint32_t begin = runs * warp / warps, end = runs * (warp + 1) / warps;
  const uint32_t* from = w.qweight + (lane % 4) * w.n + n;
  const auto read = [&](uint32_t run, uint4(&words)[U]) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      words[u] = __ldcs(reinterpret_cast<const uint4*>(from + (run * U + u) * 4 * w.n));
    }
  };
  Sums<MT> sums = {}, total = {};
  if (begin < end) {
    uint4 next[U];
    read(begin, next);
    Group<T> group(w, begin / runs_a_group, n);
    for (uint32_t run = begin; run < end; ++run) {
      uint4 words[U];
#pragma unroll
      for (int u = 0; u < U; ++u) words[u] = next[u];
      if (run + 1 < end) read(run + 1, next);
#pragma unroll
      for (int u = 0; u < U; ++u) {
        multiply_step<T, MT>(c, words[u], group, (run * U + u) * uint64_t{32}, lane, sums);
      }
      if (run + 1 == end || (run + 1) % runs_a_group == 0) {
        scale_sums<T, MT>(group, sums, total);
        if (run + 1 < end) group = Group<T>(w, (run + 1) / runs_a_group, n);
      }
    }
  }
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        parts[warp][lane / 4 * 4 + 2 * pair + i / 2][8 * mt + 2 * (lane % 4) + i % 2] =
            total[pair][mt][i];
      }
    }
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < kColumns * c.m; i += blockDim.x) {
    const uint32_t column = i % kColumns, row = i / kColumns;
    const uint64_t at = blockIdx.x * uint64_t{kColumns} + column;
    float value = 0;
    for (uint32_t part = 0; part < warps; ++part) value += parts[part][column][row];
    if (c.bias != nullptr) value += float_at(c.bias, c.bias_dtype, at);
    put_float(c.y, c.y_dtype, row * c.y_stride + at, value);
  }
}

template <typename T, int MT>
cudaError_t launch_few(const FewRows& c) {
  const auto blocks = static_cast<unsigned>(c.w.n / kColumns);
  const unsigned threads = blocks >= 256 ? 256 : kMostWarps * 32;
  const auto run = [&](auto kernel) {
    kernel<<<blocks, threads, 0, c.stream>>>(c);
    return cudaGetLastError();
  };
  const auto whole = [&](uint64_t columns) {
    return c.w.group_size % columns == 0 && c.w.k % columns == 0;
  };
  if (whole(128)) return run(few_rows_kernel<T, MT, 4>);
  if (whole(64)) return run(few_rows_kernel<T, MT, 2>);
  return run(few_rows_kernel<T, MT, 1>);
}

}  // namespace

cudaError_t decode_packs(const Matrix& w, uint64_t begin, uint64_t count, void* out, uint32_t dtype,
                         cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto blocks = static_cast<unsigned>((count + kThreads / 4 - 1) / (kThreads / 4));
    auto* to = static_cast<T*>(out);
    if (is_four_bits(w) && w.group_size % kRun == 0 && w.k < 1u << 31) {
      const auto steps = static_cast<unsigned>((w.k / kRun + 15) / 16);
      decode_words<T><<<dim3(blocks, steps), kThreads, 0, stream>>>(w, begin, count, to);
    } else {
      const auto steps = static_cast<unsigned>((w.k / kRun + 3) / 4);
      decode_kernel<T>
          <<<dim3(blocks, steps < 64 ? steps : 64), kThreads, 0, stream>>>(w, begin, count, to);
    }
    return cudaGetLastError();
  });
}

bool has_few_rows(const Matrix& w, bool shuffled) {
  return w.packing == Packing::gptq && w.bits == 4 && !shuffled && w.n % kColumns == 0 &&
         w.k % 32 == 0 && w.group_size % 32 == 0 && w.k < 1u << 31;
}

bool few_rows_fit(const FewRows& c) {
  const bool half = c.x_dtype == LS_DTYPE_F16 || c.x_dtype == LS_DTYPE_BF16;
  return half && c.m <= FewRows::kMost && has_few_rows(c.w, c.w.g_idx != nullptr) &&
         (reinterpret_cast<uintptr_t>(c.x) | c.x_stride * 2 |
          reinterpret_cast<uintptr_t>(c.w.qweight)) %
                 16 ==
             0;
}

cudaError_t few_rows(const FewRows& c) {
  if (c.m == 0) return cudaSuccess;
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    return c.m <= 8 ? launch_few<T, 1>(c) : launch_few<T, 2>(c);
  };
  return c.x_dtype == LS_DTYPE_F16 ? run(__half{}) : run(__nv_bfloat16{});
}

}  // namespace loadstone::common::cuda
