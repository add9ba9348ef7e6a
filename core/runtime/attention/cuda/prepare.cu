// Steps 1 to 4: rotation, mean of k, scales, codes. Eight lanes hold a row of q or k, 16 channels
// each, so that four of seven distances of the rotation lie within a thread. Two launches: codes of
// q beside what k and v need of all keys, then codes of k and v; each reads its operands once.
#include <cuda_fp8.h>

#include "device/floats.cuh"
#include "runtime/attention/cuda/layout.hpp"

namespace loadstone::runtime::fp8_attention::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kChannels = 16, kLanesOfRow = kTile / kChannels;
constexpr int kRowsOfWarp = 32 / kLanesOfRow, kPasses = kTile / (kWarps * kRowsOfWarp);
constexpr int kTilesOfBlock = kWarps / 2;  // of sums_of_keys: a warp for k, one for v
constexpr int kValues = kTile / kWarps;    // channels of v that a warp has
constexpr int kAhead = 12;                 // tiles whose sums are asked for at once
constexpr float kLargest = 448.0f, kMinScale = 1.0f / (448.0f * 512.0f);
constexpr uint32_t kOnes = 0x38383838;  // e4m3
constexpr unsigned kAllLanes = 0xffffffffu;

using device::Pack;
using device::to_float;

/// `count` values from an address that is a multiple of 16 bytes, or of all of them.
template <int count, typename T>
__device__ inline void load(const T* from, float (&to)[count]) {
  constexpr int kMost = 16 / sizeof(T), kTogether = count < kMost ? count : kMost;
#pragma unroll
  for (int begin = 0; begin < count; begin += kTogether) {
    const auto pack = *reinterpret_cast<const Pack<T, kTogether>*>(from + begin);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) to[begin + i] = to_float(pack.at[i]);
  }
}

template <typename T>
__device__ inline const T* head_at(const Heads& heads, int64_t batch, int64_t head) {
  return static_cast<const T*>(heads.at) + batch * heads.batch_stride + head * heads.head_stride;
}

/// Channels 16·chunk … of a row.
struct Part {
  float at[kChannels] = {};
};

__device__ inline void rotate(Part& x, const Call& call, int chunk) {
  const uint32_t minus = call.minus[chunk / 2] >> kChannels * (chunk % 2);
#pragma unroll
  for (int i = 0; i < kChannels; ++i) x.at[i] = (minus >> i & 1) != 0 ? -x.at[i] : x.at[i];
#pragma unroll
  for (int half = 1; half < kChannels; half *= 2) {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      if ((i & half) != 0) continue;
      const float a = x.at[i], b = x.at[i + half];
      x.at[i] = a + b;
      x.at[i + half] = a - b;
    }
  }
  for (int far = 1; far < call.dim / kChannels; far *= 2) {
    const float sign = (chunk & far) == 0 ? 1.0f : -1.0f;
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      x.at[i] = __fmaf_rn(x.at[i], sign, __shfl_xor_sync(kAllLanes, x.at[i], far));
    }
  }
#pragma unroll
  for (int i = 0; i < kChannels; ++i) x.at[i] *= call.rotation_root;
}

__device__ inline uint32_t magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

__device__ inline uint32_t largest(const Part& x) {
  uint32_t found = 0;
#pragma unroll
  for (int i = 0; i < kChannels; ++i) found = max(found, magnitude(x.at[i]));
  return found;
}

__device__ inline float scale_of(uint32_t bits) {
  const float scale = fmaxf(__uint_as_float(bits) / kLargest, kMinScale);
  return bits < 0x7f800000u ? scale : __uint_as_float(0x7fc00000u);
}

/// What many values are divided by: their quotients' bits are those of x / scale for scales that
/// scale_of gives and quotients that e4m3 shows, by two corrections of x·(1/scale) with exact
/// remainders (Markstein, IBM J. Res. Dev. 34-1, 1990).
struct Divisor {
  float scale, inverse;
  __device__ explicit Divisor(float by) : scale(by), inverse(1.0f / by) {}
  __device__ float quotient(float x) const {
    float q = x * inverse;
    q = __fmaf_rn(__fmaf_rn(-scale, q, x), inverse, q);
    q = __fmaf_rn(__fmaf_rn(-scale, q, x), inverse, q);
    return copysignf(q, x);  // of zeros too
  }
};

__device__ inline uint32_t two_codes(float a, float b) {
  return __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
}

/// A lane's 16 codes of row r of a tile.
__device__ inline void store_codes(const Part& x, float scale, uint8_t* tile, int r, int chunk) {
  const Divisor by(scale);
  uint32_t words[4];
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const float* four = x.at + 4 * w;
    words[w] = two_codes(by.quotient(four[0]), by.quotient(four[1])) |
               two_codes(by.quotient(four[2]), by.quotient(four[3])) << 16;
  }
  *reinterpret_cast<uint4*>(tile + place_in_tile(r, kChannels * chunk)) =
      make_uint4(words[0], words[1], words[2], words[3]);
}

/// Which row of a tile a lane has in a pass, and which of its channels.
struct Lane {
  int chunk, row;
  __device__ Lane()
      : chunk(threadIdx.x % kLanesOfRow), row(static_cast<int>(threadIdx.x) / kLanesOfRow) {}
  __device__ int row_of(int pass) const { return pass * kWarps * kRowsOfWarp + row; }
};

template <typename T>
__device__ void prepare_q(const Call& call, const Workspace& space, int tile, int64_t head) {
  const Lane lane;
  const T* q = head_at<T>(call.q, head / call.heads, head % call.heads);
  const int64_t tiles = (call.queries + kTile - 1) / kTile;
  uint8_t* out = space.q + (head * tiles + tile) * kTileNbytes;
  float* scales = space.q_scales + (head * tiles + tile) * kTile;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int r = lane.row_of(pass);
    const int64_t row = int64_t{tile} * kTile + r;
    Part x;
    if (row < call.queries && kChannels * lane.chunk < call.dim) {
      load(q + row * call.q.row_stride + kChannels * lane.chunk, x.at);
    }
    rotate(x, call, lane.chunk);
    uint32_t found = largest(x);
#pragma unroll
    for (int far = 1; far < kLanesOfRow; far *= 2) {
      found = max(found, __shfl_xor_sync(kAllLanes, found, far));
    }
    const float scale = scale_of(found);
    store_codes(x, scale, out, r, lane.chunk);
    if (lane.chunk == 0) scales[r] = scale * call.scale;
  }
}

/// Calls take(value) for one channel's value of every tile, in order.
template <typename T, typename Take>
__device__ inline void over_tiles(const T* of_channel, int64_t tiles, const Take& take) {
  for (int64_t begin = 0; begin < tiles; begin += kAhead) {
    T values[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i < tiles) values[i] = of_channel[(begin + i) * kTile];
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i < tiles) take(values[i]);
    }
  }
}

/// Sums of k and largest magnitudes of v over a tile of keys, in the keys' order.
template <typename T>
__device__ void sums_of_keys(const Call& call, const Workspace& space, int block, int64_t head) {
  const int warp = threadIdx.x / 32, channel = threadIdx.x % 32 * 4;
  const int64_t tiles = (call.keys + kTile - 1) / kTile;
  const int64_t tile = int64_t{block} * kTilesOfBlock + warp / 2;
  if (tile >= tiles) return;
  const int64_t first = tile * kTile, last = min(first + kTile, call.keys);
  const bool of_k = warp % 2 == 0;
  const Heads& heads = of_k ? call.k : call.v;
  const T* x = head_at<T>(heads, head / call.kv_heads, head % call.kv_heads) + channel;
  float sum[4] = {};
  uint32_t found[4] = {};
  if (channel < call.dim) {
#pragma unroll 16
    for (int64_t r = first; r < last; ++r) {
      float four[4];
      load(x + r * heads.row_stride, four);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[i] += four[i];
        found[i] = max(found[i], magnitude(four[i]));
      }
    }
  }
  const int64_t at = (head * tiles + tile) * kTile + channel;
  if (of_k) {
    *reinterpret_cast<float4*>(space.k_sums + at) = make_float4(sum[0], sum[1], sum[2], sum[3]);
  } else {
    *reinterpret_cast<uint4*>(space.v_largest + at) =
        make_uint4(found[0], found[1], found[2], found[3]);
  }
}

template <typename T>
__device__ void prepare_k(const Call& call, const Workspace& space, int tile, int64_t head) {
  __shared__ alignas(16) float mean[kTile];
  __shared__ uint32_t largest_of[kWarps];
  const Lane lane;
  const int64_t tiles = (call.keys + kTile - 1) / kTile;
  const T* k = head_at<T>(call.k, head / call.kv_heads, head % call.kv_heads);
  Part x[kPasses];
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int64_t row = int64_t{tile} * kTile + lane.row_of(pass);
    if (row < call.keys && kChannels * lane.chunk < call.dim) {
      load(k + row * call.k.row_stride + kChannels * lane.chunk, x[pass].at);
    }
  }
  if (threadIdx.x < kTile) {
    float sum = 0;
    over_tiles(space.k_sums + head * tiles * kTile + threadIdx.x, tiles,
               [&](float of_tile) { sum += of_tile; });
    mean[threadIdx.x] = sum / static_cast<float>(call.keys);
  }
  __syncthreads();
  Part middle;
  load(mean + kChannels * lane.chunk, middle.at);
  uint32_t found = 0;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    if (int64_t{tile} * kTile + lane.row_of(pass) < call.keys) {
#pragma unroll
      for (int i = 0; i < kChannels; ++i) x[pass].at[i] -= middle.at[i];
    }
    rotate(x[pass], call, lane.chunk);
    found = max(found, largest(x[pass]));
  }
  found = __reduce_max_sync(kAllLanes, found);
  if (threadIdx.x % 32 == 0) largest_of[threadIdx.x / 32] = found;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) found = max(found, largest_of[w]);
  const float scale = scale_of(found);
  if (threadIdx.x == 0) space.k_scales[head * tiles + tile] = scale;
  uint8_t* out = space.k + (head * tiles + tile) * kTileNbytes;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    store_codes(x[pass], scale, out, lane.row_of(pass), lane.chunk);
  }
}

/// Channels become rows, keys their columns in key_at's order; then rows of ones. A warp has eight
/// channels of all keys, a lane four keys: they are one word of each channel's row.
template <typename T>
__device__ void prepare_v(const Call& call, const Workspace& space, int tile, int64_t head) {
  __shared__ float scales[kTile];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t tiles = (call.keys + kTile - 1) / kTile, first = int64_t{tile} * kTile;
  if (threadIdx.x < kTile) {
    uint32_t found = 0;
    over_tiles(space.v_largest + head * tiles * kTile + threadIdx.x, tiles,
               [&](uint32_t of_tile) { found = max(found, of_tile); });
    scales[threadIdx.x] = scale_of(found);
    if (tile == 0) space.v_scales[head * kTile + threadIdx.x] = scales[threadIdx.x];
  }
  __syncthreads();
  const T* v = head_at<T>(call.v, head / call.kv_heads, head % call.kv_heads);
  uint8_t* out = space.v + (head * tiles + tile) * kValueNbytes;
  int64_t keys[4];
  uint32_t stored = 0;  // bytes of keys that exist: also where a scale is NaN
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    keys[c] = first + (lane / 8) * 32 + key_at(4 * (lane % 8) + c);
    stored |= keys[c] < call.keys ? 0xffu << 8 * c : 0;
  }
  const int channel = kValues * warp;
  float x[4][kValues] = {};
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    if (keys[c] < call.keys && channel < call.dim) {
      load(v + keys[c] * call.v.row_stride + channel, x[c]);
    }
  }
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    const Divisor by(scales[channel + i]);
    const uint32_t four = two_codes(by.quotient(x[0][i]), by.quotient(x[1][i])) |
                          two_codes(by.quotient(x[2][i]), by.quotient(x[3][i])) << 16;
    *reinterpret_cast<uint32_t*>(out + place_in_tile(channel + i, 4 * lane)) = four & stored;
  }
  if (warp >= kValueRows - kTile) return;
  *reinterpret_cast<uint32_t*>(out + place_in_tile(kTile + warp, 4 * lane)) = kOnes & stored;
}

/// blockIdx.y: heads of k and v, then those of q.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) first_kernel(Call call, Workspace space) {
  const int64_t kv_heads = call.batch * call.kv_heads, head = blockIdx.y;
  const int block = blockIdx.x;
  if (head < kv_heads) {
    sums_of_keys<T>(call, space, block, head);
  } else if (int64_t{block} * kTile < call.queries) {
    prepare_q<T>(call, space, block, head - kv_heads);
  }
}

/// blockIdx.y: heads of k, then those of v.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) second_kernel(Call call, Workspace space) {
  const int64_t kv_heads = call.batch * call.kv_heads, head = blockIdx.y;
  const int tile = blockIdx.x;
  if (head < kv_heads) {
    prepare_k<T>(call, space, tile, head);
  } else {
    prepare_v<T>(call, space, tile, head - kv_heads);
  }
}

template <typename T>
cudaError_t launch(const Call& call, const Workspace& space, cudaStream_t stream) {
  const auto key_tiles = static_cast<unsigned>(tiles_of(call.keys));
  const auto kv_heads = static_cast<unsigned>(call.batch * call.kv_heads);
  const auto q_heads = static_cast<unsigned>(call.batch * call.heads);
  const unsigned blocks = max((key_tiles + kTilesOfBlock - 1) / kTilesOfBlock,
                              static_cast<unsigned>(tiles_of(call.queries)));
  first_kernel<T><<<dim3(blocks, kv_heads + q_heads), kThreads, 0, stream>>>(call, space);
  if (const cudaError_t failed = cudaGetLastError(); failed != cudaSuccess) return failed;
  second_kernel<T><<<dim3(key_tiles, 2 * kv_heads), kThreads, 0, stream>>>(call, space);
  return cudaGetLastError();
}

}  // namespace

cudaError_t prepare(const Call& call, const Workspace& space, cudaStream_t stream) {
  if (call.type == Float::f32) return launch<float>(call, space, stream);
  if (call.type == Float::f16) return launch<__half>(call, space, stream);
  return launch<__nv_bfloat16>(call, space, stream);
}

}  // namespace loadstone::runtime::fp8_attention::cuda
