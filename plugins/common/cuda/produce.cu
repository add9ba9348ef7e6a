#include "common/cuda/mx_groups.cuh"
#include "common/cuda/produce.hpp"
#include "common/cuda/quantize.hpp"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;
constexpr int kLanes = static_cast<int>(kMxGroup) / kVector;  // threads a group

/// The largest value of a block, in every thread.
__device__ uint32_t largest_of_block(uint32_t value) {
  __shared__ uint32_t tops[kThreads / 32];
  value = __reduce_max_sync(0xffffffffu, value);
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = value;
  __syncthreads();
  for (unsigned i = 0; i < kThreads / 32; ++i) value = max(value, tops[i]);
  return value;
}

__device__ void complain(uint32_t* trouble, uint64_t row) {
  atomicMax(trouble, UINT32_MAX - static_cast<uint32_t>(row));
}

/// Rows whose scale is no number held a value that isn't finite.
__global__ void flag_rows(const float* scales, uint32_t rows, uint64_t row, uint32_t* trouble) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < rows && !is_finite(scales[i])) complain(trouble, row + i);
}

cudaError_t rows_with_scales(RowRule rule, const WeightRows& w, float* scales) {
  const RowsCall call{w.dtype, w.at, w.rows, w.k, w.stride, w.codes, scales, nullptr, w.stream};
  const cudaError_t status = quantize_rows(rule, call);
  if (status != cudaSuccess || w.rows == 0) return status;
  const auto rows = static_cast<uint32_t>(w.rows);
  flag_rows<<<(rows + kThreads - 1) / kThreads, kThreads, 0, w.stream>>>(scales, rows, w.row,
                                                                         w.trouble);
  return cudaGetLastError();
}

/// A block of threads a row.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    tensor_rows(const WeightRows w, const float* amax, float* scale) {
  const T* from = static_cast<const T*>(w.at) + blockIdx.x * w.stride;
  uint8_t* to = w.codes + blockIdx.x * w.k;
  const float own = *amax / 448.0f, s = own == 0.0f ? 1.0f : own, factor = 1.0f / s;
  if (blockIdx.x == 0 && threadIdx.x == 0) *scale = s;
  for (uint64_t i = threadIdx.x; i < w.k; i += kThreads) {
    const float x = to_float(from[i]);
    // Scales whose reciprocal overflows divide, as the host does.
    to[i] = *amax == 0.0f ? 0 : e4m3_code(is_finite(factor) ? x * factor : x / s);
  }
}

/// A block of threads a block of values.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    fp8_blocks(const WeightRows w, uint64_t block_rows, uint64_t block_columns, float* scales) {
  const uint64_t first = blockIdx.y * block_rows, column = blockIdx.x * block_columns;
  const uint64_t rows = min(block_rows, w.rows - first), width = min(block_columns, w.k - column);
  const T* from = static_cast<const T*>(w.at) + first * w.stride + column;
  uint8_t* to = w.codes + first * w.k + column;
  uint32_t top = 0;
  for (uint64_t i = threadIdx.x; i < rows * width; i += kThreads) {
    const uint32_t own = magnitude(to_float(from[i / width * w.stride + i % width]));
    if (own >= 0x7f800000u) complain(w.trouble, w.row + first + i / width);
    top = max(top, own);
  }
  const float amax = __uint_as_float(largest_of_block(top));
  const float scale = (amax < 1e-4f ? 1e-4f : amax) / 448.0f, factor = 1.0f / scale;
  if (threadIdx.x == 0) scales[blockIdx.y * static_cast<uint64_t>(gridDim.x) + blockIdx.x] = scale;
  for (uint64_t i = threadIdx.x; i < rows * width; i += kThreads) {
    const uint64_t r = i / width, c = i % width;
    to[r * w.k + c] = e4m3_code(to_float(from[r * w.stride + c]) * factor);
  }
}

/// Code of a value that e2m1_nearest gave.
__device__ uint32_t e2m1_code(float value) {
  const float v = fabsf(value);
  const float index = v < 2.0f ? v * 2.0f : v < 4.0f ? v + 2.0f : v * 0.5f + 4.0f;
  return static_cast<uint32_t>(index) | (__float_as_uint(value) >> 31 << 3);
}

template <MxElement E>
__device__ uint32_t mx_code(float x) {
  if constexpr (E == MxElement::e4m3) return e4m3_code(x);
  return e2m1_code(e2m1_nearest(x));
}

/// Whether the code of a scaled value, times its group's scale of byte b, is past float32.
template <MxElement E>
__device__ bool leaves_float32(float scaled, uint32_t b) {
  if (b < (E == MxElement::e4m3 ? 247u : 253u)) return false;
  const float value = E == MxElement::e4m3 ? e4m3_value(e4m3_code(scaled)) : e2m1_nearest(scaled);
  return !is_finite(value * e8m0_value(static_cast<uint8_t>(b)));
}

/// Rows of whole groups: kLanes neighbours a group, kVector values each.
template <typename T, MxRule R, MxElement E>
__global__ void __launch_bounds__(kThreads) mx_whole(const WeightRows w, uint8_t* scales) {
  const uint64_t packs = w.k / kVector;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  const bool inside = index < w.rows * packs;
  const uint64_t at = inside ? index : 0, row = at / packs, pack = at % packs;
  const auto held = *reinterpret_cast<const Pack<T, kVector>*>(static_cast<const T*>(w.at) +
                                                               row * w.stride + pack * kVector);
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) top = max(top, magnitude(to_float(held.at[i])));
  for (int far = 1; far < kLanes; far *= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, far));
  if (!inside) return;
  const uint32_t b = scale_byte<R, E>(__uint_as_float(top));
  const float factor = e8m0_value(static_cast<uint8_t>(254 - b));
  if (pack % kLanes == 0) {
    scales[row * (packs / kLanes) + pack / kLanes] = static_cast<uint8_t>(b);
    if (b == 255) complain(w.trouble, w.row + row);
  }
  constexpr int kBits = E == MxElement::e4m3 ? 8 : 4;
  uint64_t codes = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const float scaled = to_float(held.at[i]) * factor;
    codes |= uint64_t{mx_code<E>(scaled)} << (kBits * i);
    if (leaves_float32<E>(scaled, b)) complain(w.trouble, w.row + row);
  }
  if constexpr (E == MxElement::e4m3) {
    reinterpret_cast<uint64_t*>(w.codes)[index] = codes;
  } else {
    reinterpret_cast<uint32_t*>(w.codes)[index] = static_cast<uint32_t>(codes);
  }
}

/// A warp a group, any width and alignment.
template <typename T, MxRule R, MxElement E>
__global__ void __launch_bounds__(kThreads) mx_any(const WeightRows w, uint8_t* scales) {
  const uint64_t groups = (w.k + kMxGroup - 1) / kMxGroup;
  const uint64_t index = (blockIdx.x * uint64_t{kThreads} + threadIdx.x) / 32;
  if (index >= w.rows * groups) return;
  const uint64_t row = index / groups, lane = threadIdx.x % 32;
  const uint64_t column = index % groups * kMxGroup + lane;
  const bool inside = column < w.k;
  const float x = inside ? to_float(static_cast<const T*>(w.at)[row * w.stride + column]) : 0.0f;
  const uint32_t b =
      scale_byte<R, E>(__uint_as_float(__reduce_max_sync(0xffffffffu, magnitude(x))));
  const float scaled = x * e8m0_value(static_cast<uint8_t>(254 - b));
  const uint32_t code = mx_code<E>(scaled);
  const uint32_t next = __shfl_down_sync(0xffffffffu, code, 1);
  if (lane == 0) {
    scales[index] = static_cast<uint8_t>(b);
    if (b == 255) complain(w.trouble, w.row + row);
  }
  if (!inside) return;
  if (leaves_float32<E>(scaled, b)) complain(w.trouble, w.row + row);
  if constexpr (E == MxElement::e4m3) {
    w.codes[row * w.k + column] = static_cast<uint8_t>(code);
  } else if (lane % 2 == 0) {
    w.codes[(row * w.k + column) / 2] = static_cast<uint8_t>(code | next << 4);
  }
}

template <typename T, MxRule R, MxElement E>
cudaError_t launch_mx(const WeightRows& w, uint8_t* scales) {
  const bool whole =
      w.k % kMxGroup == 0 &&
      (reinterpret_cast<uintptr_t>(w.at) | w.stride * sizeof(T)) % sizeof(Pack<T, kVector>) == 0 &&
      reinterpret_cast<uintptr_t>(w.codes) % kVector == 0;
  const uint64_t groups = w.rows * ((w.k + kMxGroup - 1) / kMxGroup);
  const uint64_t threads = whole ? groups * kLanes : groups * 32;
  const auto grid = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  if (whole) {
    mx_whole<T, R, E><<<grid, kThreads, 0, w.stream>>>(w, scales);
  } else {
    mx_any<T, R, E><<<grid, kThreads, 0, w.stream>>>(w, scales);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t produce_fp8_rows(const WeightRows& weight, float* scales) {
  return rows_with_scales(RowRule::fp8_row, weight, scales);
}

cudaError_t produce_int8_rows(const WeightRows& weight, float* scales) {
  return rows_with_scales(RowRule::int8_row, weight, scales);
}

cudaError_t produce_amax(const WeightRows& w, float* amax) {
  const RowsCall call{w.dtype, w.at, w.rows, w.k, w.stride, nullptr, nullptr, nullptr, w.stream};
  return tensor_amax(call, amax);
}

cudaError_t produce_fp8_tensor(const WeightRows& w, const float* amax, float* scale) {
  if (w.rows == 0) return cudaSuccess;
  return with_float(w.dtype, [&](auto zero) {
    using T = decltype(zero);
    tensor_rows<T><<<static_cast<unsigned>(w.rows), kThreads, 0, w.stream>>>(w, amax, scale);
    return cudaGetLastError();
  });
}

cudaError_t produce_fp8_blocks(const WeightRows& w, uint64_t block_rows, uint64_t block_columns,
                               float* scales) {
  if (w.rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>((w.k + block_columns - 1) / block_columns),
                  static_cast<unsigned>((w.rows + block_rows - 1) / block_rows));
  return with_float(w.dtype, [&](auto zero) {
    using T = decltype(zero);
    fp8_blocks<T><<<grid, kThreads, 0, w.stream>>>(w, block_rows, block_columns, scales);
    return cudaGetLastError();
  });
}

cudaError_t produce_mx(const WeightRows& w, MxRule rule, MxElement element, uint8_t* scales) {
  if (w.rows == 0) return cudaSuccess;
  return with_float(w.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (rule == MxRule::rceil) return launch_mx<T, MxRule::rceil, MxElement::e4m3>(w, scales);
    if (rule == MxRule::uos) return launch_mx<T, MxRule::uos, MxElement::e2m1>(w, scales);
    if (element == MxElement::e4m3) return launch_mx<T, MxRule::ocp, MxElement::e4m3>(w, scales);
    return launch_mx<T, MxRule::ocp, MxElement::e2m1>(w, scales);
  });
}

}  // namespace loadstone::common::cuda
