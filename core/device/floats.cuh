// float32, float16 and bfloat16 as kernels of plugins and runtime read and write them. Private to
// kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace loadstone::device {

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

/// Nearest even; what is too large becomes infinite.
template <typename T>
__device__ inline T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
  return v;
}
template <>
__device__ inline __half from_float<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

/// `count` values that are read or written at once.
template <typename T, int count>
struct alignas(sizeof(T) * count) Pack {
  T at[count];
};

}  // namespace loadstone::device
