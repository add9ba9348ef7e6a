// The kernel of eights.hpp for any decoder. Private to the files of decoders.
#pragma once

#include "common/cuda/eights.hpp"
#include "common/cuda/mma.cuh"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {

namespace eights {

constexpr int kRows = 32;  // of W a block: two tiles of tensor cores
constexpr int kTiles = kRows / 16;
constexpr int kStep = 32;  // columns: eight of four lanes
constexpr int kMostWarps = 16;

template <typename T>
__device__ inline uint32_t two(float low, float high) {
  const Pack<T, 2> both{from_float<T>(low), from_float<T>(high)};
  return *reinterpret_cast<const uint32_t*>(&both);
}

/// Sums of a lane: [tile of W][rows of x / 8][as mma lays them].
using Sums = float[kTiles][2][4];

/// Columns [8·(lane%4), +8) of a step, at `column`: a lane decodes them of four rows of W and reads
/// them of two of x. `whole`: k is a multiple of kStep; else zeros beyond the last column.
template <typename T, bool whole, typename Eights>
__device__ void multiply_step(const Eights& w, const EightsProduct& c, uint64_t row,
                              uint32_t column, Sums& sums) {
  const uint32_t lane = threadIdx.x % 32;
  const bool inside = whole || column < c.k;
  uint4 x[2];
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint64_t from = lane / 4 + 8 * i;
    x[i] = make_uint4(0, 0, 0, 0);
    if (from < c.m && inside) {
      x[i] =
          *reinterpret_cast<const uint4*>(static_cast<const T*>(c.x) + from * c.x_stride + column);
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    uint32_t a[2][4];  // of the lane's columns, the first four and the last
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float values[8] = {};
      if (inside) w(min(row + 16 * tile + 8 * i + lane / 4, c.n - 1), column, values);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        a[half][i] = two<T>(values[4 * half], values[4 * half + 1]);
        a[half][2 + i] = two<T>(values[4 * half + 2], values[4 * half + 3]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      mma_16816<T>(sums[tile][i], a[0], x[i].x, x[i].y);
      mma_16816<T>(sums[tile][i], a[1], x[i].z, x[i].w);
    }
  }
}

/// A block: kRows rows of W, whose columns its warps share, each a run of steps.
template <typename T, bool whole, typename Eights>
__global__ void __launch_bounds__(kMostWarps * 32)
    product_kernel(const __grid_constant__ Eights w, const __grid_constant__ EightsProduct c) {
  __shared__ float parts[kMostWarps][EightsProduct::kMost][kRows];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const uint64_t row = blockIdx.x * uint64_t{kRows};
  const auto k = static_cast<uint32_t>(c.k);
  const uint32_t steps = (k + kStep - 1) / kStep;
  const uint32_t end = steps * (warp + 1) / warps;
  Sums sums = {};
#pragma unroll 4
  for (uint32_t step = steps * warp / warps; step < end; ++step) {
    const uint32_t column = step * kStep + lane % 4 * 8;
    multiply_step<T, whole>(w, c, row, column, sums);
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t n = 16 * tile + lane / 4 + 8 * (i % 4 / 2);
      parts[warp][8 * (i / 4) + 2 * (lane % 4) + i % 2][n] = sums[tile][i / 4][i % 4];
    }
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < kRows * c.m; i += blockDim.x) {
    const uint32_t n = i % kRows, from = i / kRows;
    if (row + n >= c.n) continue;
    float value = 0;
#pragma unroll 8
    for (uint32_t part = 0; part < warps; ++part) value += parts[part][from][n];
    if (c.bias != nullptr) value += float_at(c.bias, c.bias_dtype, row + n);
    put_float(c.y, c.y_dtype, from * c.y_stride + row + n, value);
  }
}

}  // namespace eights

/// `w(row, column, to)`: eight values of W from a column that is a multiple of 8; k is a multiple
/// of Eights::kElems.
template <typename Eights>
cudaError_t eights_product(const Eights& w, const EightsProduct& c) {
  if (c.m == 0 || c.n == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((c.n + eights::kRows - 1) / eights::kRows);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const unsigned threads = blocks >= 256 ? 256 : eights::kMostWarps * 32;
    if (Eights::kElems % eights::kStep == 0 || c.k % eights::kStep == 0) {
      eights::product_kernel<T, true><<<blocks, threads, 0, c.stream>>>(w, c);
    } else if constexpr (Eights::kElems % eights::kStep != 0) {
      eights::product_kernel<T, false><<<blocks, threads, 0, c.stream>>>(w, c);
    }
    return cudaGetLastError();
  };
  return c.x_dtype == LS_DTYPE_F16 ? run(__half{}) : run(__nv_bfloat16{});
}

}  // namespace loadstone::common::cuda
