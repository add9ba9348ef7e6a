// Floats and codes as kernels read and write them. Private to kernels.
#pragma once

#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <loadstone/plugin.h>

#include <cstdint>

#include "device/floats.cuh"

namespace loadstone::common::cuda {

using device::from_float;
using device::Pack;
using device::to_float;

__device__ inline float e4m3_value(uint8_t code) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
}
__device__ inline float e5m2_value(uint8_t code) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E5M2)));
}
/// Nearest even, saturating.
__device__ inline uint8_t e4m3_code(float v) {
  return __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
}

__device__ inline uint32_t magnitude(float v) { return __float_as_uint(v) & 0x7fffffffu; }
__device__ inline bool is_finite(float v) { return magnitude(v) < 0x7f800000u; }
__device__ inline float not_a_number() { return __uint_as_float(0x7fc00000u); }

/// 2^(byte - 127); 255 is NaN.
__device__ inline float e8m0_value(uint8_t byte) {
  return __uint_as_float(byte == 0     ? 0x00400000u
                         : byte == 255 ? 0x7fc00000u
                                       : uint32_t{byte} << 23);
}

/// Value i of an array of F32, F16 or BF16.
__device__ inline float float_at(const void* at, uint32_t dtype, uint64_t i) {
  if (dtype == LS_DTYPE_F32) return static_cast<const float*>(at)[i];
  if (dtype == LS_DTYPE_F16) return __half2float(static_cast<const __half*>(at)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(at)[i]);
}
__device__ inline void put_float(void* at, uint32_t dtype, uint64_t i, float v) {
  if (dtype == LS_DTYPE_F32) {
    static_cast<float*>(at)[i] = v;
  } else if (dtype == LS_DTYPE_F16) {
    static_cast<__half*>(at)[i] = __float2half_rn(v);
  } else {
    static_cast<__nv_bfloat16*>(at)[i] = __float2bfloat16_rn(v);
  }
}

/// Runs body with a value of the float type of LS_DTYPE_F32, F16 or BF16.
template <typename Body>
inline cudaError_t with_float(uint32_t dtype, const Body& body) {
  if (dtype == LS_DTYPE_F32) return body(float{});
  if (dtype == LS_DTYPE_F16) return body(__half{});
  if (dtype == LS_DTYPE_BF16) return body(__nv_bfloat16{});
  return cudaErrorInvalidValue;
}

}  // namespace loadstone::common::cuda
