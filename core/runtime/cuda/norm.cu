#include <type_traits>

#include "runtime/cuda/device.cuh"
#include "runtime/cuda/norm.hpp"

namespace loadstone::runtime::cuda {
namespace {

constexpr int kValues = 16;  // of a row that a thread keeps in registers
constexpr int kMostThreads = 1024;
static_assert(kWidestNorm == kValues * kMostThreads);

__host__ __device__ const LayerNorm& norm_of(const LayerNorm& call) { return call; }
__host__ __device__ const LayerNorm& norm_of(const GatedNorm& call) { return call.norm; }

/// The same sum in every thread of the block. `scratch` is this call's own.
__device__ float block_sum(float value, float* scratch) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  if (blockDim.x == 32) return value;
  const unsigned lane = threadIdx.x % 32;
  if (lane == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? scratch[lane] : 0.0f;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

/// values += gate·(more + bias) at `column`, to x too.
template <typename T, int V>
__device__ void add_gated(const GatedNorm& c, int64_t column, float (&values)[V]) {
  float gate[V], more[V];
  load<V>(static_cast<const T*>(c.gate) + column, gate);
  load<V>(static_cast<const T*>(c.more) + blockIdx.x * c.more_stride + column, more);
  if (c.bias != nullptr) {
    float bias[V];
    load<V>(static_cast<const T*>(c.bias) + column, bias);
#pragma unroll
    for (int i = 0; i < V; ++i) more[i] += bias[i];
  }
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] += gate[i] * more[i];
  store<V>(values, static_cast<T*>(c.x) + blockIdx.x * c.norm.x_stride + column);
}

/// A row a block; V values at once. Call: LayerNorm or GatedNorm.
template <typename T, int V, typename Call>
__global__ void __launch_bounds__(kMostThreads) layer_norm_kernel(const Call call) {
  constexpr int kPacks = kValues / V;
  constexpr bool kAdds = std::is_same_v<Call, GatedNorm>;
  __shared__ float scratch[2][32];
  const LayerNorm& c = norm_of(call);
  const T* x = static_cast<const T*>(c.x) + blockIdx.x * c.x_stride;
  T* y = static_cast<T*>(c.y) + blockIdx.x * c.y_stride;
  const int packs = static_cast<int>(c.width) / V;
  const auto width = static_cast<float>(c.width);
  float values[kPacks][V];
  float sum = 0;
#pragma unroll
  for (int n = 0; n < kPacks; ++n) {
    const int p = threadIdx.x + n * blockDim.x;
    if (p >= packs) continue;
    load<V>(x + p * V, values[n]);
    if constexpr (kAdds) add_gated<T>(call, int64_t{p} * V, values[n]);
#pragma unroll
    for (int i = 0; i < V; ++i) sum += values[n][i];
  }
  const float mean = block_sum(sum, scratch[0]) / width;
  float squares = 0;
#pragma unroll
  for (int n = 0; n < kPacks; ++n) {
    const int p = threadIdx.x + n * blockDim.x;
    if (p >= packs) continue;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      values[n][i] -= mean;
      squares += values[n][i] * values[n][i];
    }
  }
  const float inverse = 1.0f / sqrtf(block_sum(squares, scratch[1]) / width + c.eps);
#pragma unroll
  for (int n = 0; n < kPacks; ++n) {
    const int p = threadIdx.x + n * blockDim.x;
    if (p >= packs) continue;
    float scale[V], shift[V];
    load<V>(static_cast<const T*>(c.scale) + p * V, scale);
    load<V>(static_cast<const T*>(c.shift) + p * V, shift);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      values[n][i] = values[n][i] * inverse * (1.0f + scale[i]) + shift[i];
    }
    store<V>(values[n], y + p * V);
  }
}

template <typename T, int V, typename Call>
cudaError_t launch(const Call& call, cudaStream_t stream) {
  const LayerNorm& c = norm_of(call);
  const int64_t threads = (c.width + kValues - 1) / kValues;
  const auto warps = static_cast<unsigned>((threads + 31) / 32);
  layer_norm_kernel<T, V><<<static_cast<unsigned>(c.rows), warps * 32, 0, stream>>>(call);
  return cudaGetLastError();
}

bool whole_packs(int64_t pack, const LayerNorm& c) {
  return whole(pack, {c.width, c.x_stride, c.y_stride}) && aligned({c.x, c.y, c.scale, c.shift});
}
bool whole_packs(int64_t pack, const GatedNorm& c) {
  return whole_packs(pack, c.norm) && whole(pack, {c.more_stride}) &&
         aligned({c.gate, c.more, c.bias});
}

template <typename Call>
const char* run(const Call& call, const Queue& queue) {
  if (norm_of(call).rows == 0) return nullptr;
  return on_device(queue, [&](cudaStream_t stream) {
    return with_float(norm_of(call).type, [&](auto zero) {
      using T = decltype(zero);
      constexpr int kPack = kBytes / sizeof(T);
      return whole_packs(kPack, call) ? launch<T, kPack>(call, stream) : launch<T, 1>(call, stream);
    });
  });
}

}  // namespace

const char* layer_norm(const LayerNorm& call, const Queue& queue) { return run(call, queue); }
const char* gated_norm(const GatedNorm& call, const Queue& queue) { return run(call, queue); }

}  // namespace loadstone::runtime::cuda
