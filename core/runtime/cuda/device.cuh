// What this folder's kernels share.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

#include "device/floats.cuh"
#include "runtime/cuda/launch.hpp"

namespace loadstone::runtime::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kBytes = 16;  // that a thread reads or writes at once, where addresses allow it

using device::from_float;
using device::Pack;
using device::to_float;

/// `count` values as float32, `together` of them at once: the address is a multiple of that.
template <int together, int count, typename T>
__device__ inline void load(const T* from, float (&to)[count]) {
#pragma unroll
  for (int begin = 0; begin < count; begin += together) {
    const auto pack = *reinterpret_cast<const Pack<T, together>*>(from + begin);
#pragma unroll
    for (int i = 0; i < together; ++i) to[begin + i] = to_float(pack.at[i]);
  }
}
template <int together, int count, typename T>
__device__ inline void store(const float (&from)[count], T* to) {
#pragma unroll
  for (int begin = 0; begin < count; begin += together) {
    Pack<T, together> pack;
#pragma unroll
    for (int i = 0; i < together; ++i) pack.at[i] = from_float<T>(from[begin + i]);
    *reinterpret_cast<Pack<T, together>*>(to + begin) = pack;
  }
}

/// Runs body with a value of the type.
template <typename Body>
inline cudaError_t with_float(Float type, const Body& body) {
  switch (type) {
    case Float::f32:
      return body(float{});
    case Float::f16:
      return body(__half{});
    case Float::bf16:
      return body(__nv_bfloat16{});
  }
  return cudaErrorInvalidValue;
}

inline bool aligned(std::initializer_list<const void*> all) {
  for (const void* one : all) {
    if (reinterpret_cast<uintptr_t>(one) % kBytes != 0) return false;
  }
  return true;
}
/// Whether all counts and strides are whole packs.
inline bool whole(int64_t pack, std::initializer_list<int64_t> all) {
  for (int64_t one : all) {
    if (one % pack != 0) return false;
  }
  return true;
}

/// Blocks of whole warps for `count` threads of one row, at most 256 each and about as many in
/// each.
struct Split {
  unsigned blocks, threads;
  explicit Split(int64_t count) {
    blocks = static_cast<unsigned>((count + 255) / 256);
    threads = static_cast<unsigned>((count + blocks - 1) / blocks + 31) / 32 * 32;
  }
};

/// Queues on the GPU of `queue`: the calling thread's is another's business, and restored.
template <typename Body>
const char* on_device(const Queue& queue, const Body& body) {
  int before = 0;
  cudaError_t status = cudaGetDevice(&before);
  const bool other = status == cudaSuccess && before != queue.device;
  if (other) status = cudaSetDevice(queue.device);
  if (status == cudaSuccess) status = body(static_cast<cudaStream_t>(queue.stream));
  if (other) cudaSetDevice(before);
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace loadstone::runtime::cuda
