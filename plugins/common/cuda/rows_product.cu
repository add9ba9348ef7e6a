#include "common/cuda/rows_product.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kTile = 64;   // rows of x and of W a block
constexpr int kDepth = 32;  // columns at a time
constexpr int kEach = 4;    // rows of each a thread

struct LoadI8 {
  using Sum = int;
  static constexpr bool kInteger = true;
  __device__ static int value(const void* at, uint64_t i) {
    return static_cast<const int8_t*>(at)[i];
  }
};
struct LoadE4m3 {
  using Sum = float;
  static constexpr bool kInteger = false;
  __device__ static float value(const void* at, uint64_t i) {
    return e4m3_value(static_cast<const uint8_t*>(at)[i]);
  }
};
struct LoadE5m2 {
  using Sum = float;
  static constexpr bool kInteger = false;
  __device__ static float value(const void* at, uint64_t i) {
    return e5m2_value(static_cast<const uint8_t*>(at)[i]);
  }
};

__device__ float any_float(const void* at, uint32_t dtype, uint64_t i) {
  if (dtype == LS_DTYPE_F32) return static_cast<const float*>(at)[i];
  if (dtype == LS_DTYPE_F16) return __half2float(static_cast<const __half*>(at)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(at)[i]);
}
__device__ void store_float(void* at, uint32_t dtype, uint64_t i, float v) {
  if (dtype == LS_DTYPE_F32)
    static_cast<float*>(at)[i] = v;
  else if (dtype == LS_DTYPE_F16)
    static_cast<__half*>(at)[i] = __float2half_rn(v);
  else
    static_cast<__nv_bfloat16*>(at)[i] = __float2bfloat16_rn(v);
}

template <typename X, typename W>
__global__ void __launch_bounds__(256) product_kernel(const __grid_constant__ RowsProduct c) {
  using Sum = typename X::Sum;
  __shared__ Sum xs[kDepth][kTile + 1], ws[kDepth][kTile + 1];
  const uint64_t row = blockIdx.x * uint64_t{kTile}, column = blockIdx.y * uint64_t{kTile};
  const int tx = static_cast<int>(threadIdx.x % 16), ty = static_cast<int>(threadIdx.x / 16);
  float total[kEach][kEach] = {};
  for (uint64_t begin = 0, g = 0; begin < c.k; begin += c.group, ++g) {
    const uint64_t end = min(begin + c.group, c.k);
    Sum sum[kEach][kEach] = {};
    for (uint64_t k0 = begin; k0 < end; k0 += kDepth) {
      for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += 256) {
        const int d = i % kDepth, r = i / kDepth;
        const bool inside = k0 + d < end;
        xs[d][r] = inside && row + r < c.m ? X::value(c.x, (row + r) * c.k + k0 + d) : Sum{0};
        ws[d][r] = inside && column + r < c.n ? W::value(c.w, (column + r) * c.k + k0 + d) : Sum{0};
      }
      __syncthreads();
      for (int d = 0; d < kDepth; ++d) {
        Sum a[kEach], b[kEach];
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          a[i] = xs[d][ty * kEach + i];
          b[i] = ws[d][tx * kEach + i];
        }
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) sum[i][j] += a[i] * b[j];
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const uint64_t r = row + ty * kEach + i, n = column + tx * kEach + j;
        if (r >= c.m || n >= c.n) continue;
        const float x_scale = c.x_scale[g * c.m + r];
        const float w_scale = c.w_scale[n * c.w_groups + g];
        Sum whole = sum[i][j];
        if constexpr (X::kInteger) {
          if (c.constants != nullptr) whole += c.constants[n];
        }
        const float own = static_cast<float>(whole);
        total[i][j] += c.group >= c.k ? x_scale * (w_scale * own) : own * (x_scale * w_scale);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const uint64_t r = row + ty * kEach + i, n = column + tx * kEach + j;
      if (r >= c.m || n >= c.n) continue;
      const float bias = c.bias != nullptr ? any_float(c.bias, c.bias_dtype, n) : 0.0f;
      store_float(c.y, c.y_dtype, r * c.y_stride + n, total[i][j] + bias);
    }
  }
}

}  // namespace

cudaError_t rows_product(const RowsProduct& call) {
  if (call.m == 0 || call.n == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>((call.m + kTile - 1) / kTile),
                  static_cast<unsigned>((call.n + kTile - 1) / kTile));
  if (call.x_dtype == LS_DTYPE_I8) {
    product_kernel<LoadI8, LoadI8><<<grid, 256, 0, call.stream>>>(call);
  } else if (call.w_dtype == LS_DTYPE_F8_E5M2) {
    product_kernel<LoadE4m3, LoadE5m2><<<grid, 256, 0, call.stream>>>(call);
  } else {
    product_kernel<LoadE4m3, LoadE4m3><<<grid, 256, 0, call.stream>>>(call);
  }
  return cudaGetLastError();
}

}  // namespace loadstone::common::cuda
