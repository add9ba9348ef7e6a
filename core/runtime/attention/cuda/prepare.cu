// Steps 1 to 4: rotation, mean of k, scales, codes. A warp holds a row, four channels a lane.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "runtime/attention/cuda/layout.hpp"

namespace loadstone::runtime::fp8_attention::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32, kRowsOfWarp = kTile / kWarps;
constexpr float kLargest = 448.0f, kMinScale = 1.0f / (448.0f * 512.0f);
constexpr uint8_t kOne = 0x38;      // e4m3
constexpr int kStride = kTile + 4;  // of v's codes in shared memory: fewer conflicts in columns

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T at[4];
};

struct Row {
  float at[4];
};

/// Channels 4·lane … of a row, zeros past `dim`.
template <typename T>
__device__ inline Row load_row(const T* row, int lane, int dim) {
  Row out{};
  if (4 * lane >= dim) return out;
  const Four<T> four = *reinterpret_cast<const Four<T>*>(row + 4 * lane);
#pragma unroll
  for (int i = 0; i < 4; ++i) out.at[i] = to_float(four.at[i]);
  return out;
}

template <typename T>
__device__ inline const T* head_at(const Heads& heads, int64_t batch, int64_t head) {
  return static_cast<const T*>(heads.at) + batch * heads.batch_stride + head * heads.head_stride;
}

__device__ inline void rotate(Row& x, const Call& call, int lane) {
  const int dim = static_cast<int>(call.dim);
  const uint32_t minus = call.minus[lane / 8] >> 4 * (lane % 8);
#pragma unroll
  for (int i = 0; i < 4; ++i) x.at[i] = (minus >> i & 1) != 0 ? -x.at[i] : x.at[i];
  const float a = x.at[0] + x.at[1], b = x.at[0] - x.at[1];
  const float c = x.at[2] + x.at[3], d = x.at[2] - x.at[3];
  x.at[0] = a + c;
  x.at[1] = b + d;
  x.at[2] = a - c;
  x.at[3] = b - d;
  for (int far = 1; far < dim / 4; far *= 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float other = __shfl_xor_sync(0xffffffffu, x.at[i], far);
      x.at[i] = (lane & far) == 0 ? x.at[i] + other : other - x.at[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) x.at[i] *= call.rotation_root;
}

__device__ inline uint32_t magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

__device__ inline uint32_t largest(const Row& x) {
  return max(max(magnitude(x.at[0]), magnitude(x.at[1])),
             max(magnitude(x.at[2]), magnitude(x.at[3])));
}

__device__ inline float scale_of(uint32_t bits) {
  const float scale = fmaxf(__uint_as_float(bits) / kLargest, kMinScale);
  return bits < 0x7f800000u ? scale : __uint_as_float(0x7fc00000u);
}

__device__ inline uint32_t code(float x) {
  return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

__device__ inline uint32_t codes(const Row& x, float scale) {
  return code(x.at[0] / scale) | code(x.at[1] / scale) << 8 | code(x.at[2] / scale) << 16 |
         code(x.at[3] / scale) << 24;
}

/// Sums of k and largest magnitudes of v over a tile of keys; a thread a channel.
template <typename T>
__global__ void sums_kernel(Call call, Workspace space) {
  const int tile = blockIdx.x, channel = threadIdx.x;
  const int64_t head = blockIdx.y, batch = head / call.kv_heads, inner = head % call.kv_heads;
  const int64_t first = int64_t{tile} * kTile, last = min(first + kTile, call.keys);
  float sum = 0;
  uint32_t found = 0;
  if (channel < call.dim) {
    const T* k = head_at<T>(call.k, batch, inner) + channel;
    const T* v = head_at<T>(call.v, batch, inner) + channel;
#pragma unroll 16
    for (int64_t r = first; r < last; ++r) {
      sum += to_float(k[r * call.k.row_stride]);
      found = max(found, magnitude(to_float(v[r * call.v.row_stride])));
    }
  }
  const int64_t at = (head * gridDim.x + tile) * kTile + channel;
  space.k_sums[at] = sum;
  space.v_largest[at] = found;
}

template <typename T>
__device__ void prepare_q(const Call& call, const Workspace& space, int tile, int64_t head) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const T* q = head_at<T>(call.q, head / call.heads, head % call.heads);
  const int64_t tiles = (call.queries + kTile - 1) / kTile;
  uint8_t* out = space.q + (head * tiles + tile) * kTileNbytes;
  float* scales = space.q_scales + (head * tiles + tile) * kTile;
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int r = warp * kRowsOfWarp + i;
    const int64_t row = int64_t{tile} * kTile + r;
    Row x{};
    if (row < call.queries) {
      x = load_row(q + row * call.q.row_stride, lane, static_cast<int>(call.dim));
    }
    rotate(x, call, lane);
    const float scale = scale_of(__reduce_max_sync(0xffffffffu, largest(x)));
    *reinterpret_cast<uint32_t*>(out + place_in_tile(r, 4 * lane)) = codes(x, scale);
    if (lane == 0) scales[r] = scale * call.scale;
  }
}

template <typename T>
__device__ void prepare_k(const Call& call, const Workspace& space, int tile, int64_t head) {
  __shared__ float mean[kTile];
  __shared__ uint32_t largest_of[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int dim = static_cast<int>(call.dim);
  const int64_t tiles = (call.keys + kTile - 1) / kTile;
  if (threadIdx.x < kTile) {
    const float* part = space.k_sums + head * tiles * kTile + threadIdx.x;
    float sum = 0;
#pragma unroll 8
    for (int64_t t = 0; t < tiles; ++t) sum += part[t * kTile];
    mean[threadIdx.x] = sum / static_cast<float>(call.keys);
  }
  __syncthreads();
  const T* k = head_at<T>(call.k, head / call.kv_heads, head % call.kv_heads);
  const Row middle = load_row(mean, lane, dim);
  Row x[kRowsOfWarp];
  uint32_t found = 0;
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int64_t row = int64_t{tile} * kTile + warp * kRowsOfWarp + i;
    x[i] = Row{};
    if (row < call.keys) {
      x[i] = load_row(k + row * call.k.row_stride, lane, dim);
#pragma unroll
      for (int c = 0; c < 4; ++c) x[i].at[c] -= middle.at[c];
    }
    rotate(x[i], call, lane);
    found = max(found, largest(x[i]));
  }
  found = __reduce_max_sync(0xffffffffu, found);
  if (lane == 0) largest_of[warp] = found;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) found = max(found, largest_of[w]);
  const float scale = scale_of(found);
  if (threadIdx.x == 0) space.k_scales[head * tiles + tile] = scale;
  uint8_t* out = space.k + (head * tiles + tile) * kTileNbytes;
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int r = warp * kRowsOfWarp + i;
    *reinterpret_cast<uint32_t*>(out + place_in_tile(r, 4 * lane)) = codes(x[i], scale);
  }
}

/// Channels become rows, keys their columns in key_at's order; then rows of ones.
template <typename T>
__device__ void prepare_v(const Call& call, const Workspace& space, int tile, int64_t head) {
  __shared__ float scales[kTile];
  __shared__ uint8_t staged[kTile * kStride];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int dim = static_cast<int>(call.dim);
  const int64_t tiles = (call.keys + kTile - 1) / kTile, first = int64_t{tile} * kTile;
  if (threadIdx.x < kTile) {
    const uint32_t* part = space.v_largest + head * tiles * kTile + threadIdx.x;
    uint32_t found = 0;
#pragma unroll 8
    for (int64_t t = 0; t < tiles; ++t) found = max(found, part[t * kTile]);
    scales[threadIdx.x] = scale_of(found);
    if (tile == 0) space.v_scales[head * kTile + threadIdx.x] = scales[threadIdx.x];
  }
  __syncthreads();
  const T* v = head_at<T>(call.v, head / call.kv_heads, head % call.kv_heads);
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int r = warp * kRowsOfWarp + i;
    Row x{};
    if (first + r < call.keys) x = load_row(v + (first + r) * call.v.row_stride, lane, dim);
    uint32_t four = 0;
#pragma unroll
    for (int c = 0; c < 4; ++c) four |= code(x.at[c] / scales[4 * lane + c]) << 8 * c;
    if (first + r >= call.keys) four = 0;  // also where a scale is NaN
    *reinterpret_cast<uint32_t*>(staged + r * kStride + 4 * lane) = four;
  }
  __syncthreads();
  uint8_t* out = space.v + (head * tiles + tile) * kValueNbytes;
  for (int channel = warp; channel < kValueRows; channel += kWarps) {
    uint32_t four = 0;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int key = (lane / 8) * 32 + key_at(4 * (lane % 8) + c);
      const uint32_t one = first + key < call.keys ? kOne : 0;
      four |= (channel < kTile ? staged[key * kStride + channel] : one) << 8 * c;
    }
    *reinterpret_cast<uint32_t*>(out + place_in_tile(channel, 4 * lane)) = four;
  }
}

/// blockIdx.y: heads of q, then those of k, then those of v.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) prepare_kernel(Call call, Workspace space) {
  const int64_t q_heads = call.batch * call.heads, kv_heads = call.batch * call.kv_heads;
  const int64_t head = blockIdx.y;
  const int tile = blockIdx.x;
  if (head < q_heads) {
    if (int64_t{tile} * kTile < call.queries) prepare_q<T>(call, space, tile, head);
  } else if (int64_t{tile} * kTile < call.keys) {
    if (head < q_heads + kv_heads) {
      prepare_k<T>(call, space, tile, head - q_heads);
    } else {
      prepare_v<T>(call, space, tile, head - q_heads - kv_heads);
    }
  }
}

template <typename T>
cudaError_t launch(const Call& call, const Workspace& space, cudaStream_t stream) {
  const auto key_tiles = static_cast<unsigned>(tiles_of(call.keys));
  const auto kv_heads = static_cast<unsigned>(call.batch * call.kv_heads);
  const auto q_heads = static_cast<unsigned>(call.batch * call.heads);
  sums_kernel<T><<<dim3(key_tiles, kv_heads), kTile, 0, stream>>>(call, space);
  if (const cudaError_t failed = cudaGetLastError(); failed != cudaSuccess) return failed;
  const unsigned tiles = max(key_tiles, static_cast<unsigned>(tiles_of(call.queries)));
  prepare_kernel<T><<<dim3(tiles, q_heads + 2 * kv_heads), kThreads, 0, stream>>>(call, space);
  return cudaGetLastError();
}

}  // namespace

cudaError_t prepare(const Call& call, const Workspace& space, cudaStream_t stream) {
  if (call.type == Float::f32) return launch<float>(call, space, stream);
  if (call.type == Float::f16) return launch<__half>(call, space, stream);
  return launch<__nv_bfloat16>(call, space, stream);
}

}  // namespace loadstone::runtime::fp8_attention::cuda
