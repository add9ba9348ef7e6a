// Steps 5 to 7. A block has 192 queries of a head: three warpgroups multiply and weigh 64 of them
// each, so that one's products run beside another's softmax; a fourth brings tiles of keys and
// values ahead of them. What such blocks would leave for a last round that fills few of the GPU's
// units goes to blocks of 64 queries, whose keys the three share tile by tile. Sums of e4m3
// products are short of float32 (README.md), so those of a tile of keys are added up in float32
// outside of the units.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "runtime/attention/cuda/hopper_e4m3.cuh"
#include "runtime/attention/cuda/layout.hpp"

namespace loadstone::runtime::fp8_attention::cuda {
namespace {

namespace hopper = device::hopper;

constexpr int kStages = 6, kGroups = 3, kThreads = 128 * (kGroups + 1);
constexpr int kGroupRows = 64, kGroupNbytes = kGroupRows * kTile;  // queries of a warpgroup
constexpr int kStageNbytes = kTileNbytes + kValueNbytes;
constexpr int kSharedNbytes =
    kGroups * kGroupNbytes + kStages * kStageNbytes + 1024;  // 1024: to align
constexpr int kParts = 68 + 2;  // values of a thread that shares its queries: sums, maxima
static_assert((kGroups - 1) * kParts * 128 * sizeof(float) <= kStages * kStageNbytes);
static_assert(kStages % kGroups == 0);  // a stage is always one group's where they share queries

/// Blocks of each head: `whole` with kGroups·64 queries, then `single` with 64.
struct Blocks {
  int whole, single;
};

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

/// Which head and queries a block has, and where its operands lie.
struct Place {
  int64_t head, kv_head, q_tiles;
  int key_tiles;
  int first;    // of its groups of 64 queries
  bool shared;  // all warpgroups have that one group, and every third tile of keys each

  __device__ Place(const Call& call, const Blocks& blocks)
      : q_tiles((call.queries + kTile - 1) / kTile),
        key_tiles(static_cast<int>((call.keys + kTile - 1) / kTile)) {
    const int64_t heads = call.batch * call.heads, whole = heads * blocks.whole;
    const int64_t block = blockIdx.x;
    shared = block >= whole;
    if (shared) {
      head = (block - whole) / blocks.single;
      first = kGroups * blocks.whole + static_cast<int>((block - whole) % blocks.single);
    } else {
      head = block / blocks.whole;
      first = kGroups * static_cast<int>(block % blocks.whole);
    }
    kv_head = head / call.heads * call.kv_heads + head % call.heads / (call.heads / call.kv_heads);
  }
  __device__ int groups() const { return shared ? 1 : kGroups; }
  /// The queries of a warpgroup, in groups of 64.
  __device__ int group(int i) const { return shared ? first : first + i; }
};

__device__ inline void bring(const Workspace& space, const Place& place, uint32_t q_at,
                             uint32_t stages, Barriers& barriers) {
  const uint32_t q_ready = hopper::shared_address(&barriers.q);
  const uint32_t q_nbytes = place.groups() * kGroupNbytes;
  hopper::barrier_expect(q_ready, q_nbytes);
  const uint8_t* q = space.q + place.head * place.q_tiles * kTileNbytes;
  hopper::copy_bytes(q_at, q + int64_t{place.first} * kGroupNbytes, q_nbytes, q_ready);
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

/// What the warpgroups found of one group of queries is the first one's, through the stages'
/// memory. Maxima are whole numbers: shifts between them are exact.
__device__ inline void gather(float* parts, int group, float (&running)[2], float (&sums)[68]) {
  const int thread = threadIdx.x % 128;
  hopper::some_sync(1, 128 * kGroups);  // every tile has been read
  if (group > 0) {
    float* own = parts + (group - 1) * kParts * 128 + thread;
#pragma unroll
    for (int i = 0; i < 68; ++i) own[i * 128] = sums[i];
#pragma unroll
    for (int h = 0; h < 2; ++h) own[(68 + h) * 128] = running[h];
  }
  hopper::some_sync(1, 128 * kGroups);
  if (group > 0) return;
  for (int other = 1; other < kGroups; ++other) {
    const float* its = parts + (other - 1) * kParts * 128 + thread;
    float own_share[2], its_share[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float its_running = its[(68 + h) * 128], most = fmaxf(running[h], its_running);
      own_share[h] = exp2_of(running[h] - most);
      its_share[h] = exp2_of(its_running - most);
      running[h] = most;
    }
#pragma unroll
    for (int i = 0; i < 68; ++i) {
      const int h = i / 2 % 2;
      sums[i] = fmaf(sums[i], own_share[h], its[i * 128] * its_share[h]);
    }
  }
}

template <typename T>
__device__ inline void consume(const Call& call, const Workspace& space, const Place& place,
                               uint32_t q_at, uint32_t stages, float* parts, Barriers& barriers) {
  const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32;
  const int row = threadIdx.x % 128 / 32 * 16 + lane / 4;  // of the group's, and 8 below
  const float* q_scales =
      space.q_scales + place.head * place.q_tiles * kTile + place.group(group) * kGroupRows + row;
  const float* k_scales = space.k_scales + place.kv_head * place.key_tiles;
  const float q_scale[2] = {q_scales[0], q_scales[8]};
  float running[2] = {kNone, kNone}, sums[68] = {};
  hopper::barrier_wait(hopper::shared_address(&barriers.q), 0);
  const uint64_t q = hopper::rows_descriptor(q_at + (place.shared ? 0 : group) * kGroupNbytes);
  const int step = place.shared ? kGroups : 1;
  for (int t = place.shared ? group : 0; t < place.key_tiles; t += step) {
    const int stage = t % kStages;
    const uint32_t at = stages + stage * kStageNbytes;
    const float k_scale = k_scales[t];
    const float factor[2] = {q_scale[0] * k_scale, q_scale[1] * k_scale};
    hopper::barrier_wait(hopper::shared_address(&barriers.full[stage]), t / kStages & 1);
    const uint64_t k = hopper::rows_descriptor(at), v = hopper::rows_descriptor(at + kTileNbytes);
    float scores[64];
    hopper::products_begin();
#pragma unroll
    for (int c = 0; c < 4; ++c) hopper::product_e4m3(scores, q + 2 * c, k + 2 * c, c);
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
  if (place.shared) {
    gather(parts, group, running, sums);
    if (group > 0) return;
  }
  const int64_t first = int64_t{place.group(group)} * kGroupRows + row;
  store<T>(call, space, place, sums, first, 0, lane);
  store<T>(call, space, place, sums, first + 8, 1, lane);
}
#endif

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    attend_kernel(const __grid_constant__ Call call, const __grid_constant__ Workspace space,
                  const Blocks blocks) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t shared[];
  __shared__ Barriers barriers;
  const uint32_t q_at = (hopper::shared_address(shared) + 1023) / 1024 * 1024;
  const uint32_t stages = q_at + kGroups * kGroupNbytes;
  const Place place(call, blocks);
  if (threadIdx.x == 0) {
    hopper::barrier_init(hopper::shared_address(&barriers.q), 1);
    for (int s = 0; s < kStages; ++s) {
      hopper::barrier_init(hopper::shared_address(&barriers.full[s]), 1);
      hopper::barrier_init(hopper::shared_address(&barriers.empty[s]), place.shared ? 1 : kGroups);
    }
    hopper::barriers_are_set();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    hopper::fewer_registers<24>();
    if (threadIdx.x == 0) bring(space, place, q_at, stages, barriers);
  } else {
    hopper::more_registers<160>();
    auto* parts = reinterpret_cast<float*>(shared + (stages - hopper::shared_address(shared)));
    consume<T>(call, space, place, q_at, stages, parts, barriers);
  }
#endif
}

/// Whole rounds of the GPU's units by blocks of 192 queries. The rest by blocks of 64 if two such
/// rounds do: they read their keys from the cache three times as often.
cudaError_t divide(const Call& call, Blocks& out) {
  int device = 0, units = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&units, cudaDevAttrMultiProcessorCount, device);
  }
  if (status != cudaSuccess) return status;
  const int64_t heads = call.batch * call.heads;
  const int64_t groups = (call.queries + kGroupRows - 1) / kGroupRows, most = groups / kGroups;
  const int64_t rounds = heads * groups / (kGroups * units);
  int64_t whole = min(most, rounds * units / heads);
  if (heads * (groups - kGroups * whole) > 2 * units) whole = most;
  out = {static_cast<int>(whole), static_cast<int>(groups - kGroups * whole)};
  return cudaSuccess;
}

template <typename T>
cudaError_t launch(const Call& call, const Workspace& space, cudaStream_t stream) {
  Blocks blocks{};
  cudaError_t status = divide(call, blocks);
  if (status == cudaSuccess) {
    status = cudaFuncSetAttribute(attend_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedNbytes);
  }
  if (status != cudaSuccess) return status;
  const auto count =
      static_cast<unsigned>(call.batch * call.heads * (blocks.whole + blocks.single));
  attend_kernel<T><<<count, kThreads, kSharedNbytes, stream>>>(call, space, blocks);
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
