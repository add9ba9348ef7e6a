#include "runtime/cuda/device.cuh"
#include "runtime/cuda/rotary.hpp"

namespace loadstone::runtime::cuda {
namespace {

constexpr int kManyPacks = 4;  // a lane, of heads that need more than a warp's

__host__ __device__ int heads_written(const Heads& c) {
  return c.q + (c.with_values ? 2 : 1) * c.kv;
}

/// Heads of row blockIdx.x, one to each group of 2^`shift` threads (at most 32); V values at once
/// (2: one after the other, wherever they lie), up to N times a thread.
template <typename T, int V, int N>
__global__ void __launch_bounds__(256) heads_kernel(const Heads c, int shift) {
  constexpr int kTogether = V == 2 ? 1 : V;
  const int lanes = 1 << shift, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int head = static_cast<int>((blockIdx.y * blockDim.x + threadIdx.x) >> shift);
  const int packs = head < heads_written(c) ? c.dim / V : 0;  // whole warps reach the shuffles
  const auto positions = static_cast<unsigned>(c.positions);
  const int64_t batch = blockIdx.x / positions, t = blockIdx.x % positions;
  const int64_t column = int64_t{head} * c.dim;
  const T* from = static_cast<const T*>(c.from) + blockIdx.x * c.from_stride + column;
  T* to = static_cast<T*>(c.to) + batch * c.to_batch_stride + t * c.to_stride + column;
  const bool is_q = head < c.q, is_v = head >= c.q + c.kv;
  const T* weight = static_cast<const T*>(is_v ? nullptr : is_q ? c.q_weight : c.k_weight);

  float values[N][V];
  float squares = 0;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int p = lane + n * lanes;
    if (p >= packs) continue;
    load<kTogether>(from + p * V, values[n]);
    if (c.bias != nullptr) {
      float bias[V];
      load<kTogether>(static_cast<const T*>(c.bias) + column + p * V, bias);
#pragma unroll
      for (int i = 0; i < V; ++i) values[n][i] += bias[i];
    }
#pragma unroll
    for (int i = 0; i < V; ++i) squares += values[n][i] * values[n][i];
  }
  for (int step = lanes / 2; step > 0; step /= 2) {
    squares += __shfl_xor_sync(kAllLanes, squares, step);
  }
  const float eps = is_q ? c.q_eps : c.k_eps;
  const float factor = 1.0f / sqrtf(squares / static_cast<float>(c.dim) + eps);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int p = lane + n * lanes;
    if (p >= packs) continue;
    if (weight != nullptr) {
      float weights[V];
      load<kTogether>(weight + p * V, weights);
#pragma unroll
      for (int i = 0; i < V; ++i) values[n][i] *= factor * weights[i];
    }
    if (!is_v) {
      float cosine[V / 2], sine[V / 2];
      const int64_t angle = t * (c.dim / 2) + p * (V / 2);
      load<V / 2>(c.cosine + angle, cosine);
      load<V / 2>(c.sine + angle, sine);
#pragma unroll
      for (int i = 0; i < V / 2; ++i) {
        const float a = values[n][2 * i], b = values[n][2 * i + 1];
        values[n][2 * i] = a * cosine[i] - b * sine[i];
        values[n][2 * i + 1] = a * sine[i] + b * cosine[i];
      }
    }
    store<kTogether>(values[n], to + p * V);
  }
}

template <typename T, int V>
cudaError_t launch(const Heads& c, cudaStream_t stream) {
  const int packs = c.dim / V;
  int shift = 0;
  while (shift < 5 && (1 << shift) < packs) ++shift;
  const Split row(int64_t{heads_written(c)} << shift);
  const dim3 grid(static_cast<unsigned>(c.batch * c.positions), row.blocks);
  if (packs <= 32) {
    heads_kernel<T, V, 1><<<grid, row.threads, 0, stream>>>(c, shift);
  } else {
    heads_kernel<T, V, kManyPacks><<<grid, row.threads, 0, stream>>>(c, shift);
  }
  return cudaGetLastError();
}

}  // namespace

bool heads_fit(int64_t dim) { return dim > 0 && dim % 2 == 0 && dim / 2 <= 32 * kManyPacks; }

const char* place_heads(const Heads& call, const Queue& queue) {
  if (call.batch * call.positions == 0) return nullptr;
  return on_device(queue, [&](cudaStream_t stream) {
    return with_float(call.type, [&](auto zero) {
      using T = decltype(zero);
      constexpr int kPack = kBytes / sizeof(T);
      const bool packs =
          whole(kPack, {call.dim, call.from_stride, call.to_stride, call.to_batch_stride}) &&
          aligned({call.from, call.to, call.bias, call.q_weight, call.k_weight, call.cosine,
                   call.sine});
      if (packs) return launch<T, kPack>(call, stream);
      return launch<T, 2>(call, stream);
    });
  });
}

}  // namespace loadstone::runtime::cuda
