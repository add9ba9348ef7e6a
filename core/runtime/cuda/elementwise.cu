#include <atomic>

#include "runtime/cuda/device.cuh"
#include "runtime/cuda/elementwise.hpp"

namespace loadstone::runtime::cuda {
namespace {

/// x/2·(1 + tanh u) = x/(1 + e^(-2u)), u = sqrt(2/π)·(x + 0.044715·x³). The fast form is within
/// some float32 roundings, which 16-bit types don't show; float32 takes the exact function.
template <typename T>
__device__ float gelu(float x) {
  const float u = 0.7978845608f * (x + 0.044715f * (x * x * x));
  if constexpr (sizeof(T) == sizeof(float)) {
    return 0.5f * x * (1.0f + tanhf(u));
  } else {
    return __fdividef(x, 1.0f + __expf(-2.0f * u));
  }
}

/// values += bias[column…], where there is one.
template <typename T, int V>
__device__ void add_bias(float (&values)[V], const void* bias, int64_t column) {
  if (bias == nullptr) return;
  float more[V];
  load<V>(static_cast<const T*>(bias) + column, more);
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] += more[i];
}

template <typename T, int V>
__global__ void __launch_bounds__(256) gelu_kernel(const Gelu c) {
  const int64_t column = (blockIdx.y * int64_t{blockDim.x} + threadIdx.x) * V;
  if (column >= c.width) return;
  T* x = static_cast<T*>(c.x) + (gridDim.x - 1 - blockIdx.x) * c.stride + column;
  float values[V];
  load<V>(x, values);
  add_bias<T>(values, c.bias, column);
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] = gelu<T>(values[i]);
  store<V>(values, x);
}

template <typename T, int V>
cudaError_t launch_gelu(const Gelu& c, cudaStream_t stream) {
  const Split row(c.width / V);
  const dim3 grid(static_cast<unsigned>(c.rows), row.blocks);
  gelu_kernel<T, V><<<grid, row.threads, 0, stream>>>(c);
  return cudaGetLastError();
}

template <typename T, int V>
__global__ void __launch_bounds__(256) add_gated_kernel(const AddGated c) {
  const int64_t column = (blockIdx.y * int64_t{blockDim.x} + threadIdx.x) * V;
  if (column >= c.width) return;
  T* x = static_cast<T*>(c.x) + blockIdx.x * c.x_stride + column;
  float sum[V], gate[V], y[V];
  load<V>(x, sum);
  load<V>(static_cast<const T*>(c.gate) + column, gate);
  load<V>(static_cast<const T*>(c.y) + blockIdx.x * c.y_stride + column, y);
  add_bias<T>(y, c.bias, column);
#pragma unroll
  for (int i = 0; i < V; ++i) sum[i] += gate[i] * y[i];
  store<V>(sum, x);
}

template <typename T, int V>
cudaError_t launch_add(const AddGated& c, cudaStream_t stream) {
  const Split row(c.width / V);
  const dim3 grid(static_cast<unsigned>(c.rows), row.blocks);
  add_gated_kernel<T, V><<<grid, row.threads, 0, stream>>>(c);
  return cudaGetLastError();
}

}  // namespace

const char* gelu_tanh(const Gelu& call, const Queue& queue) {
  if (call.rows == 0 || call.width == 0) return nullptr;
  return on_device(queue, [&](cudaStream_t stream) {
    return with_float(call.type, [&](auto zero) {
      using T = decltype(zero);
      constexpr int kPack = kBytes / sizeof(T);
      const bool packs = whole(kPack, {call.width, call.stride}) && aligned({call.x, call.bias});
      return packs ? launch_gelu<T, kPack>(call, stream) : launch_gelu<T, 1>(call, stream);
    });
  });
}

const char* add_gated(const AddGated& call, const Queue& queue) {
  if (call.rows == 0 || call.width == 0) return nullptr;
  return on_device(queue, [&](cudaStream_t stream) {
    return with_float(call.type, [&](auto zero) {
      using T = decltype(zero);
      constexpr int kPack = kBytes / sizeof(T);
      const bool packs = whole(kPack, {call.width, call.x_stride, call.y_stride}) &&
                         aligned({call.x, call.gate, call.y, call.bias});
      return packs ? launch_add<T, kPack>(call, stream) : launch_add<T, 1>(call, stream);
    });
  });
}

bool runs_on(int device) {
  constexpr int kMostDevices = 64;
  enum Answer : char { unasked, no, yes };
  static std::atomic<Answer> answers[kMostDevices];
  if (device < 0 || device >= kMostDevices) return false;
  if (const Answer known = answers[device]; known != unasked) return known == yes;
  cudaFuncAttributes attributes{};
  const char* why = on_device({device, nullptr}, [&](cudaStream_t) {
    return cudaFuncGetAttributes(&attributes, gelu_kernel<float, 1>);
  });
  cudaGetLastError();  // a GPU of another architecture is no failure
  answers[device] = why == nullptr ? yes : no;
  return why == nullptr;
}

}  // namespace loadstone::runtime::cuda
