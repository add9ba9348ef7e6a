#include "runtime/attention/on_cuda.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <numbers>

#include "runtime/attention/cuda/attention.hpp"
#include "runtime/attention/fp8.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

cuda::Float float_of(at::ScalarType type) {
  if (type == at::kFloat) return cuda::Float::f32;
  if (type == at::kHalf) return cuda::Float::f16;
  TORCH_CHECK(type == at::kBFloat16, "quantized attention takes no ", type);
  return cuda::Float::bf16;
}

/// The tensor itself where the kernels can read it, else a dense copy.
at::Tensor readable(const at::Tensor& x, at::ScalarType type) {
  const auto each = 4 * x.element_size();
  const bool fits = x.scalar_type() == type && x.stride(3) == 1 && x.stride(0) % 4 == 0 &&
                    x.stride(1) % 4 == 0 && x.stride(2) % 4 == 0 &&
                    reinterpret_cast<uintptr_t>(x.const_data_ptr()) % each == 0;
  return fits ? x : x.to(type).contiguous();
}

cuda::Heads heads_of(const at::Tensor& x) {
  return {x.const_data_ptr(), x.stride(0), x.stride(1), x.stride(2)};
}

}  // namespace

at::Tensor on_cuda(const AttentionCall& call) {
  const at::ScalarType type = call.q.scalar_type();
  const at::Device device = call.q.device();
  const at::Tensor q = readable(call.q, type), k = readable(call.k, type),
                   v = readable(call.v, type);
  cuda::Call kernel;
  kernel.q = heads_of(q);
  kernel.k = heads_of(k);
  kernel.v = heads_of(v);
  kernel.type = float_of(type);
  kernel.batch = q.size(0);
  kernel.heads = q.size(1);
  kernel.kv_heads = k.size(1);
  kernel.queries = q.size(2);
  kernel.keys = k.size(2);
  kernel.dim = q.size(3);
  kernel.scale = static_cast<float>(call.scale * std::numbers::log2e);
  kernel.rotation_root = 1.0f / std::sqrt(static_cast<float>(kernel.dim));
  const auto signs = rotation_signs(kernel.dim);
  for (size_t i = 0; i < signs.size(); ++i) {
    kernel.minus[i / 32] |= (signs[i] < 0 ? 1u : 0u) << i % 32;
  }
  const at::Tensor out =
      at::empty({kernel.batch, kernel.queries, kernel.heads * kernel.dim}, q.options());
  const at::Tensor workspace = at::empty(
      {static_cast<int64_t>(cuda::workspace_nbytes(kernel)) + 1024}, q.options().dtype(at::kByte));
  const auto base = reinterpret_cast<uintptr_t>(workspace.mutable_data_ptr());
  kernel.workspace = reinterpret_cast<void*>((base + 1023) / 1024 * 1024);
  kernel.out = out.mutable_data_ptr();
  const at::DeviceGuard on(device);
  const at::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  const cudaError_t failed = cuda::run(kernel, static_cast<cudaStream_t>(stream.native_handle()));
  TORCH_CHECK(failed == cudaSuccess, "quantized attention failed: ", cudaGetErrorString(failed));
  return out;
}

}  // namespace loadstone::runtime::fp8_attention
