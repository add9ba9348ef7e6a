#include "common/cuda/eights.cuh"
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

/// What eights_product multiplies; `whole`: eight columns lie in one group.
template <Packing P, bool whole>
struct WordRows {
  static constexpr uint32_t kElems = 32;
  Matrix w;

  __device__ uint32_t code(uint64_t k, uint64_t n) const {
    if constexpr (P == Packing::awq) return awq_value(w.qweight + k * (w.n / 8), n);
    return stream_value(w.qweight + n, w.n, k, w.bits);
  }
  __device__ int zero(uint64_t group, uint64_t n) const {
    const uint32_t* zeros = w.qzeros + group * (w.n * w.bits / 32);
    const uint32_t own =
        P == Packing::awq ? awq_value(zeros, n) : stream_value(zeros, 1, n, w.bits);
    return static_cast<int>(own + w.zero_bias);
  }
  __device__ float value(uint64_t k, uint64_t n, float scale, int zero) const {
    return scale * static_cast<float>(static_cast<int>(code(k, n)) - zero);
  }

  __device__ void operator()(uint64_t n, uint32_t column, float (&to)[kRun]) const {
    if constexpr (whole) {
      const uint64_t group = column / static_cast<uint32_t>(w.group_size);
      const float scale = float_at(w.scales, w.scale_dtype, group * w.n + n);
      const int level = zero(group, n);
#pragma unroll
      for (int i = 0; i < kRun; ++i) to[i] = value(column + i, n, scale, level);
    } else {
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        const uint64_t k = column + i;
        const uint64_t group =
            w.g_idx != nullptr ? static_cast<uint64_t>(w.g_idx[k]) : k / w.group_size;
        const float scale = float_at(w.scales, w.scale_dtype, group * w.n + n);
        to[i] = value(k, n, scale, zero(group, n));
      }
    }
  }
};

bool is_four_bits(const Matrix& w) {
  return w.packing == Packing::gptq && w.bits == 4 && w.g_idx == nullptr;
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

cudaError_t words_few_rows(const Matrix& w, const EightsProduct& call) {
  const bool whole = w.g_idx == nullptr && w.group_size % kRun == 0 && w.group_size < 1u << 31;
  const auto run = [&](auto rows) { return eights_product(rows, call); };
  if (w.packing == Packing::awq) {
    return whole ? run(WordRows<Packing::awq, true>{w}) : run(WordRows<Packing::awq, false>{w});
  }
  return whole ? run(WordRows<Packing::gptq, true>{w}) : run(WordRows<Packing::gptq, false>{w});
}

}  // namespace loadstone::common::cuda
