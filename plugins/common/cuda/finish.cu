#include "common/cuda/finish.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;

/// V columns of one row a thread.
template <typename Sum, typename Y, typename B, int V>
__global__ void __launch_bounds__(kThreads) finish_kernel(const Finish c) {
  const uint64_t packs = (c.n + V - 1) / V;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= c.m * packs) return;
  const uint64_t i = index / packs, j = index % packs * V;
  const auto sums =
      *reinterpret_cast<const Pack<Sum, V>*>(static_cast<const Sum*>(c.sums) + i * c.n + j);
  const float x_scale = c.x_scale != nullptr ? c.x_scale[i] : 1.0f;
  Pack<Y, V> out;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    Sum sum = sums.at[v];
    if constexpr (Sum(0.5f) == Sum{}) {  // integers
      if (c.constants != nullptr) sum += c.constants[j + v];
    }
    float value = static_cast<float>(sum);
    if (c.w_scale != nullptr) value *= c.w_scale[j + v];
    value *= x_scale;
    if (c.bias != nullptr) value += to_float(static_cast<const B*>(c.bias)[j + v]);
    out.at[v] = from_float<Y>(value);
  }
  *reinterpret_cast<Pack<Y, V>*>(static_cast<Y*>(c.y) + i * c.y_stride + j) = out;
}

template <typename Y, typename B>
__global__ void __launch_bounds__(kThreads)
    bias_kernel(Y* y, uint64_t m, uint64_t n, uint64_t stride, const B* bias) {
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= m * n) return;
  Y* at = y + index / n * stride + index % n;
  *at = from_float<Y>(to_float(*at) + to_float(bias[index % n]));
}

template <typename Sum, typename Y, typename B>
cudaError_t launch(const Finish& c) {
  constexpr int kVector = 4;
  const bool packs = c.n % kVector == 0 && c.y_stride % kVector == 0 &&
                     reinterpret_cast<uintptr_t>(c.y) % (kVector * sizeof(Y)) == 0 &&
                     reinterpret_cast<uintptr_t>(c.sums) % (kVector * sizeof(Sum)) == 0;
  const uint64_t threads = packs ? c.m * (c.n / kVector) : c.m * c.n;
  const auto grid = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  if (packs) {
    finish_kernel<Sum, Y, B, kVector><<<grid, kThreads, 0, c.stream>>>(c);
  } else {
    finish_kernel<Sum, Y, B, 1><<<grid, kThreads, 0, c.stream>>>(c);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t finish_sums(const Finish& call) {
  if (call.m == 0 || call.n == 0) return cudaSuccess;
  const uint32_t bias_dtype = call.bias != nullptr ? call.bias_dtype : uint32_t{LS_DTYPE_F32};
  return with_float(call.y_dtype, [&](auto y) {
    return with_float(bias_dtype, [&](auto bias) {
      using Y = decltype(y);
      using B = decltype(bias);
      return call.integers ? launch<int32_t, Y, B>(call) : launch<float, Y, B>(call);
    });
  });
}

cudaError_t add_bias(void* y, uint32_t y_dtype, uint64_t m, uint64_t n, uint64_t y_stride,
                     const void* bias, uint32_t bias_dtype, cudaStream_t stream) {
  if (m == 0 || n == 0) return cudaSuccess;
  return with_float(y_dtype, [&](auto y0) {
    return with_float(bias_dtype, [&](auto b0) {
      using Y = decltype(y0);
      using B = decltype(b0);
      const auto grid = static_cast<unsigned>((m * n + kThreads - 1) / kThreads);
      bias_kernel<Y, B><<<grid, kThreads, 0, stream>>>(static_cast<Y*>(y), m, n, y_stride,
                                                       static_cast<const B*>(bias));
      return cudaGetLastError();
    });
  });
}

}  // namespace loadstone::common::cuda
