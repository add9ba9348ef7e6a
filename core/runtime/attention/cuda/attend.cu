// Steps 5 to 7. A block has 192 queries of a head: three warpgroups multiply and weigh 64 of them
// each, so that one's products run beside another's softmax; a fourth brings tiles of keys and
// values ahead of them. Sums of e4m3 products are short of
// float32 (README.md), so those of a tile of keys are added up in float32 outside of the units.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/attention/cuda/hopper_e4m3.cuh"
#include "runtime/attention/cuda/layout.hpp"

namespace loadstone::runtime::fp8_attention::cuda {
namespace {

namespace hopper = device::hopper;

constexpr int kStages = 3, kGroups = 3, kThreads = 128 * (kGroups + 1);
constexpr int kGroupRows = 64, kGroupNbytes = kGroupRows * kTile;  // queries of a warpgroup
constexpr int kStageNbytes = kTileNbytes + kValueNbytes;
constexpr int kSharedNbytes =
    kGroups * kGroupNbytes + kStages * kStageNbytes + 1024;  // 1024: to align

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr float kPeakLog2 = 8;
constexpr float kNone = -INFINITY;

__device__ inline void put(float* at, float a, float b) {
  *reinterpret_cast<float2*>(at) = make_float2(a, b);
}
__device__ inline void put(__half* at, float a, float b) {
  *reinterpret_cast<__half2*>(at) = __floats2half2_rn(a, b);
}
__device__ inline void put(__nv_bfloat16* at, float a, float b) {
  *reinterpret_cast<__nv_bfloat162*>(at) = __floats2bfloat162_rn(a, b);
}

struct Barriers {
  uint64_t q, full[kStages], empty[kStages];
};

/// Which head and tile a block has, and where its operands lie.
struct Place {
  int64_t head, kv_head, q_tiles;
  int key_tiles;
  /// The queries of a warpgroup, in groups of 64; may be past the head's.
  __device__ int64_t group(int i) const { return int64_t{blockIdx.x} * kGroups + i; }
  /// One that exists.
  __device__ int64_t stored_group(int i) const { return min(group(i), 2 * q_tiles - 1); }
};

__device__ inline void bring(const Workspace& space, const Place& place, uint32_t q_at,
                             uint32_t stages, Barriers& barriers) {
  const uint32_t q_ready = hopper::shared_address(&barriers.q);
  hopper::barrier_expect(q_ready, kGroups * kGroupNbytes);
  const uint8_t* q = space.q + place.head * place.q_tiles * kTileNbytes;
  for (int i = 0; i < kGroups; ++i) {
    hopper::copy_bytes(q_at + i * kGroupNbytes, q + place.stored_group(i) * kGroupNbytes,
                       kGroupNbytes, q_ready);
  }
  const uint8_t* k = space.k + place.kv_head * place.key_tiles * kTileNbytes;
  const uint8_t* v = space.v + place.kv_head * place.key_tiles * kValueNbytes;
  for (int t = 0; t < place.key_tiles; ++t) {
    const int stage = t % kStages, round = t / kStages;
    const uint32_t full = hopper::shared_address(&barriers.full[stage]);
    if (round > 0) {
      hopper::barrier_wait(hopper::shared_address(&barriers.empty[stage]), (round - 1) & 1);
    }
    hopper::barrier_expect(full, kStageNbytes);
    const uint32_t at = stages + stage * kStageNbytes;
    hopper::copy_bytes(at, k + int64_t{t} * kTileNbytes, kTileNbytes, full);
    hopper::copy_bytes(at + kTileNbytes, v + int64_t{t} * kValueNbytes, kValueNbytes, full);
  }
}

/// Scores of a tile become codes of weights; `running` takes the tile's maximum in, `shrink` is
/// what earlier sums are worth under it.
__device__ inline void weigh(float (&scores)[64], const float (&factor)[2], int keys_here, int lane,
                             float (&running)[2], float (&shrink)[2], uint32_t (&weights)[4][4]) {
  if (keys_here < kTile) {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= keys_here) scores[i] = kNone;
    }
  }
  float shift[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = kNone;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      most = fmaxf(most, fmaxf(scores[4 * j + 2 * h], scores[4 * j + 2 * h + 1]));
    }
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
    const float now = fmaxf(running[h], ceilf(most * factor[h]));
    shrink[h] = exp2_of(running[h] - now);
    running[h] = now;
    shift[h] = kPeakLog2 - now;
  }
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int h = i / 2 % 2;
    scores[i] = exp2_of(fmaf(scores[i], factor[h], shift[h]));
  }
#pragma unroll
  for (int g = 0; g < 4; ++g) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int i = 16 * g + 8 * (r / 2) + 2 * (r % 2);
      weights[g][r] = four_codes(scores[i], scores[i + 1], scores[i + 4], scores[i + 5]);
    }
  }
}

/// Adds a tile's weighted values to `sums`, in two runs of channels to need fewer registers.
__device__ inline void add_values(const uint32_t (&weights)[4][4], uint64_t v,
                                  const float (&shrink)[2], float (&sums)[68]) {
  float low[32], high[36];
  hopper::products_begin();
#pragma unroll
  for (int g = 0; g < 4; ++g) product_values_low(low, weights[g], v + 2 * g, g);
  hopper::products_commit();
  hopper::products_wait<0>();
  constexpr int kHalf = 64 * kTile >> 4;  // 64 rows on, as descriptors count
  hopper::products_begin();
#pragma unroll
  for (int g = 0; g < 4; ++g) product_values_high(high, weights[g], v + kHalf + 2 * g, g);
  hopper::products_commit();
#pragma unroll
  for (int i = 0; i < 32; ++i) sums[i] = fmaf(sums[i], shrink[i / 2 % 2], low[i]);
  hopper::products_wait<0>();
#pragma unroll
  for (int i = 0; i < 36; ++i) sums[32 + i] = fmaf(sums[32 + i], shrink[i / 2 % 2], high[i]);
}

template <typename T>
__device__ inline void store(const Call& call, const Workspace& space, const Place& place,
                             const float (&sums)[68], int64_t row, int h, int lane) {
  if (row >= call.queries) return;
  const int64_t batch = place.head / call.heads, head = place.head % call.heads;
  const float* scales = space.v_scales + place.kv_head * kTile;
  T* out =
      static_cast<T*>(call.out) + ((batch * call.queries + row) * call.heads + head) * call.dim;
  const float total = sums[64 + 2 * h];
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    const int channel = 8 * j + 2 * (lane % 4);
    if (channel >= call.dim) return;
    put(out + channel, sums[4 * j + 2 * h] * scales[channel] / total,
        sums[4 * j + 2 * h + 1] * scales[channel + 1] / total);
  }
}

template <typename T>
__device__ inline void consume(const Call& call, const Workspace& space, const Place& place,
                               uint32_t q_at, uint32_t stages, Barriers& barriers) {
  const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32;
  const int row = threadIdx.x % 128 / 32 * 16 + lane / 4;  // of the group's, and 8 below
  const float* q_scales = space.q_scales + place.head * place.q_tiles * kTile +
                          place.stored_group(group) * kGroupRows + row;
  const float* k_scales = space.k_scales + place.kv_head * place.key_tiles;
  const float q_scale[2] = {q_scales[0], q_scales[8]};
  float running[2] = {kNone, kNone}, sums[68] = {};
  hopper::barrier_wait(hopper::shared_address(&barriers.q), 0);
  const uint64_t q = hopper::rows_descriptor(q_at + group * kGroupNbytes);
  for (int t = 0; t < place.key_tiles; ++t) {
    const int stage = t % kStages;
    const uint32_t at = stages + stage * kStageNbytes;
    const float k_scale = k_scales[t];
    const float factor[2] = {q_scale[0] * k_scale, q_scale[1] * k_scale};
    hopper::barrier_wait(hopper::shared_address(&barriers.full[stage]), t / kStages & 1);
    const uint64_t k = hopper::rows_descriptor(at), v = hopper::rows_descriptor(at + kTileNbytes);
    float scores[64];
    hopper::products_begin();
#pragma unroll
    for (int c = 0; c < 4; ++c) product_scores(scores, q + 2 * c, k + 2 * c, c);
    hopper::products_commit();
    hopper::products_wait<0>();
    float shrink[2];
    uint32_t weights[4][4];
    const int64_t left = call.keys - int64_t{t} * kTile;
    weigh(scores, factor, left < kTile ? static_cast<int>(left) : kTile, lane, running, shrink,
          weights);
    add_values(weights, v, shrink, sums);
    if (threadIdx.x % 128 == 0)
      hopper::barrier_arrive(hopper::shared_address(&barriers.empty[stage]));
  }
  const int64_t first = place.group(group) * kGroupRows + row;
  store<T>(call, space, place, sums, first, 0, lane);
  store<T>(call, space, place, sums, first + 8, 1, lane);
}
#endif

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    attend_kernel(const __grid_constant__ Call call, const __grid_constant__ Workspace space) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t shared[];
  __shared__ Barriers barriers;
  const uint32_t q_at = (hopper::shared_address(shared) + 1023) / 1024 * 1024;
  const uint32_t stages = q_at + kGroups * kGroupNbytes;
  const int64_t head = blockIdx.y;
  const Place place{
      head, head / call.heads * call.kv_heads + head % call.heads / (call.heads / call.kv_heads),
      (call.queries + kTile - 1) / kTile, static_cast<int>((call.keys + kTile - 1) / kTile)};
  if (threadIdx.x == 0) {
    hopper::barrier_init(hopper::shared_address(&barriers.q), 1);
    for (int s = 0; s < kStages; ++s) {
      hopper::barrier_init(hopper::shared_address(&barriers.full[s]), 1);
      hopper::barrier_init(hopper::shared_address(&barriers.empty[s]), kGroups);
    }
    hopper::barriers_are_set();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    hopper::fewer_registers<24>();
    if (threadIdx.x == 0) bring(space, place, q_at, stages, barriers);
  } else {
    hopper::more_registers<160>();
    consume<T>(call, space, place, q_at, stages, barriers);
  }
#endif
}

template <typename T>
cudaError_t launch(const Call& call, const Workspace& space, cudaStream_t stream) {
  const cudaError_t allowed = cudaFuncSetAttribute(
      attend_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedNbytes);
  if (allowed != cudaSuccess) return allowed;
  constexpr int64_t kRows = kGroups * kGroupRows;
  const dim3 grid(static_cast<unsigned>((call.queries + kRows - 1) / kRows),
                  static_cast<unsigned>(call.batch * call.heads));
  attend_kernel<T><<<grid, kThreads, kSharedNbytes, stream>>>(call, space);
  return cudaGetLastError();
}

}  // namespace

cudaError_t attend(const Call& call, const Workspace& space, cudaStream_t stream) {
  if (call.type == Float::f32) return launch<float>(call, space, stream);
  if (call.type == Float::f16) return launch<__half>(call, space, stream);
  return launch<__nv_bfloat16>(call, space, stream);
}

uint64_t workspace_nbytes(const Call& call) { return cut(call, nullptr).nbytes; }

cudaError_t run(const Call& call, cudaStream_t stream) {
  const Workspace space = cut(call, call.workspace);
  const cudaError_t failed = prepare(call, space, stream);
  return failed != cudaSuccess ? failed : attend(call, space, stream);
}

}  // namespace loadstone::runtime::fp8_attention::cuda
