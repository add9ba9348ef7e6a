#include "common/cuda/quantize.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;
constexpr float kLeastScale = 1.0f / (448.0f * 512.0f);

/// The largest of a block's values, in every thread.
__device__ uint32_t block_max(uint32_t value) {
  __shared__ uint32_t tops[kThreads / 32];
  value = __reduce_max_sync(0xffffffffu, value);
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = value;
  __syncthreads();
  for (int i = 0; i < kThreads / 32; ++i) value = max(value, tops[i]);
  return value;
}

__device__ float at_least(float value, float bound) { return value < bound ? bound : value; }

/// One row's codes: what is decided once a row, and the code of a value.
template <RowRule R>
struct Coder {
  float scale = 0, factor = 0;
  bool divides = false;
  double wide = 0;

  __device__ Coder(float amax, float given) {
    const bool finite = is_finite(amax);
    if constexpr (R == RowRule::fp8_row) {
      scale = finite ? at_least(amax / 448.0f, kLeastScale) : not_a_number();
    } else if constexpr (R == RowRule::int8_row) {
      scale = finite ? amax / 127.0f : not_a_number();
      factor = !finite || amax == 0.0f ? 0.0f : 127.0f / amax;
      // Magnitudes under 4e-37 lie outside the contract; float64 holds the factor.
      if (!is_finite(factor)) wide = 127.0 / static_cast<double>(amax);
    } else {
      const bool tensor = R == RowRule::fp8_tensor;
      const float whole = given / 448.0f;
      const float own = !tensor ? given : whole == 0.0f ? 1.0f : whole;
      factor = 1.0f / own;
      divides = !is_finite(factor);
      if (divides) factor = own;
      if (tensor && given == 0.0f) factor = 0.0f;
      scale = is_finite(tensor ? given : amax) ? own : not_a_number();
    }
  }
  __device__ uint8_t operator()(float x) const {
    if constexpr (R == RowRule::int8_row) {
      const int q = wide != 0 ? static_cast<int>(rint(static_cast<double>(x) * wide))
                              : __float2int_rn(x * factor);
      return static_cast<uint8_t>(static_cast<int8_t>(max(-128, min(127, q))));
    } else if constexpr (R == RowRule::fp8_row) {
      return e4m3_code(x / scale);
    } else {
      if (factor == 0.0f) return 0;
      return e4m3_code(divides ? x / factor : x * factor);
    }
  }
};

template <RowRule R>
__device__ Coder<R> row_coder(uint32_t top, const float* given, float* scale) {
  const Coder<R> coder(__uint_as_float(top), given != nullptr ? *given : 0.0f);
  if (threadIdx.x == 0) *scale = coder.scale;
  return coder;
}

/// Rows that fit the block's registers: NV packs a thread. The row is read once.
template <typename T, RowRule R, int NV>
__global__ void __launch_bounds__(kThreads)
    rows_in_registers(const T* x, uint64_t stride, int k, uint8_t* codes, float* scales,
                      const float* given) {
  const uint64_t row = blockIdx.x;
  const auto* from = reinterpret_cast<const Pack<T, kVector>*>(x + row * stride);
  auto* to = reinterpret_cast<Pack<uint8_t, kVector>*>(codes + row * static_cast<uint64_t>(k));
  const int count = k / kVector;
  Pack<T, kVector> held[NV];
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    if (at < count) held[i] = from[at];
  }
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (i * kThreads + static_cast<int>(threadIdx.x) >= count) continue;
#pragma unroll
    for (int j = 0; j < kVector; ++j) top = max(top, magnitude(to_float(held[i].at[j])));
  }
  const Coder<R> coder = row_coder<R>(block_max(top), given, scales + row);
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    if (at >= count) continue;
    Pack<uint8_t, kVector> out;
#pragma unroll
    for (int j = 0; j < kVector; ++j) out.at[j] = coder(to_float(held[i].at[j]));
    to[at] = out;
  }
}

/// Any width and alignment: the second read comes from the cache.
template <typename T, RowRule R>
__global__ void __launch_bounds__(kThreads)
    rows_read_twice(const T* x, uint64_t stride, int k, uint8_t* codes, float* scales,
                    const float* given) {
  const uint64_t row = blockIdx.x;
  const T* from = x + row * stride;
  uint8_t* to = codes + row * static_cast<uint64_t>(k);
  uint32_t top = 0;
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) {
    top = max(top, magnitude(to_float(from[i])));
  }
  const Coder<R> coder = row_coder<R>(block_max(top), given, scales + row);
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads)
    to[i] = coder(to_float(from[i]));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    amax_rows(const T* x, uint64_t stride, int k, uint32_t* amax) {
  const T* from = x + blockIdx.x * stride;
  uint32_t top = 0;
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) {
    top = max(top, magnitude(to_float(from[i])));
  }
  top = block_max(top);
  if (threadIdx.x == 0) atomicMax(amax, top);
}

/// A warp a group.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    groups_kernel(const T* x, uint64_t stride, int k, int group, uint64_t m, uint8_t* codes,
                  float* scales) {
  const int lane = static_cast<int>(threadIdx.x % 32), groups = k / group;
  const uint64_t index = (blockIdx.x * uint64_t{kThreads} + threadIdx.x) / 32;
  if (index >= m * static_cast<uint64_t>(groups)) return;
  const uint64_t row = index / static_cast<uint64_t>(groups);
  const uint64_t g = index % static_cast<uint64_t>(groups);
  const T* from = x + row * stride + g * static_cast<uint64_t>(group);
  uint8_t* to = codes + row * static_cast<uint64_t>(k) + g * static_cast<uint64_t>(group);
  uint32_t top = 0;
  for (int i = lane; i < group; i += 32) top = max(top, magnitude(to_float(from[i])));
  top = __reduce_max_sync(0xffffffffu, top);
  const float amax = __uint_as_float(top);
  const float scale = is_finite(amax) ? at_least(amax, 1e-10f) / 448.0f : not_a_number();
  if (lane == 0) scales[g * m + row] = scale;
  for (int i = lane; i < group; i += 32) to[i] = e4m3_code(to_float(from[i]) / scale);
}

template <typename T, RowRule R>
cudaError_t launch_rows(const RowsCall& c) {
  const auto* x = static_cast<const T*>(c.x);
  const auto grid = static_cast<unsigned>(c.m);
  const int k = static_cast<int>(c.k);
  const bool packs =
      c.k % kVector == 0 && c.k <= uint64_t{kThreads} * kVector * 8 &&
      (reinterpret_cast<uintptr_t>(c.x) | c.stride * sizeof(T)) % sizeof(Pack<T, kVector>) == 0 &&
      reinterpret_cast<uintptr_t>(c.codes) % kVector == 0;
  const auto run = [&](auto kernel) {
    kernel<<<grid, kThreads, 0, c.stream>>>(x, c.stride, k, c.codes, c.scales, c.given);
    return cudaGetLastError();
  };
  if (!packs) return run(rows_read_twice<T, R>);
  const uint64_t nv = (c.k + kThreads * kVector - 1) / (kThreads * kVector);
  if (nv <= 1) return run(rows_in_registers<T, R, 1>);
  if (nv <= 2) return run(rows_in_registers<T, R, 2>);
  if (nv <= 4) return run(rows_in_registers<T, R, 4>);
  return run(rows_in_registers<T, R, 8>);
}

}  // namespace

cudaError_t quantize_rows(RowRule rule, const RowsCall& call) {
  if (call.m == 0) return cudaSuccess;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    switch (rule) {
      case RowRule::fp8_row:
        return launch_rows<T, RowRule::fp8_row>(call);
      case RowRule::fp8_tensor:
        return launch_rows<T, RowRule::fp8_tensor>(call);
      case RowRule::fp8_fixed:
        return launch_rows<T, RowRule::fp8_fixed>(call);
      default:
        return launch_rows<T, RowRule::int8_row>(call);
    }
  });
}

cudaError_t tensor_amax(const RowsCall& call, float* amax) {
  const cudaError_t zeroed = cudaMemsetAsync(amax, 0, sizeof *amax, call.stream);
  if (zeroed != cudaSuccess || call.m == 0) return zeroed;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    amax_rows<T><<<static_cast<unsigned>(call.m), kThreads, 0, call.stream>>>(
        static_cast<const T*>(call.x), call.stride, static_cast<int>(call.k),
        reinterpret_cast<uint32_t*>(amax));
    return cudaGetLastError();
  });
}

cudaError_t quantize_groups(const RowsCall& call, uint64_t group) {
  if (call.m == 0) return cudaSuccess;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    const uint64_t warps = call.m * (call.k / group);
    const auto grid = static_cast<unsigned>((warps + kThreads / 32 - 1) / (kThreads / 32));
    groups_kernel<T><<<grid, kThreads, 0, call.stream>>>(
        static_cast<const T*>(call.x), call.stride, static_cast<int>(call.k),
        static_cast<int>(group), call.m, call.codes, call.scales);
    return cudaGetLastError();
  });
}

}  // namespace loadstone::common::cuda
