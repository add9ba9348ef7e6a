#include "runtime/attention/on_cuda.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <numbers>

#include "runtime/attention/fp8.hpp"
#include "runtime/attention/kernel_call.hpp"

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
  const bool fits = x.scalar_type() == type && x.stride(3) == 1 && x.stride(0) % 8 == 0 &&
                    x.stride(1) % 8 == 0 && x.stride(2) % 8 == 0 &&
                    reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  return fits ? x : x.to(type).contiguous();
}

cuda::Heads heads_of(const at::Tensor& x) {
  return {x.const_data_ptr(), x.stride(0), x.stride(1), x.stride(2)};
}

}  // namespace

KernelCall kernel_call(const AttentionCall& call) {
  const at::ScalarType type = call.q.scalar_type();
  KernelCall out;
  out.q = readable(call.q, type);
  out.k = readable(call.k, type);
  out.v = readable(call.v, type);
  cuda::Call& kernel = out.cuda;
  kernel.q = heads_of(out.q);
  kernel.k = heads_of(out.k);
  kernel.v = heads_of(out.v);
  kernel.type = float_of(type);
  kernel.batch = out.q.size(0);
  kernel.heads = out.q.size(1);
  kernel.kv_heads = out.k.size(1);
  kernel.queries = out.q.size(2);
  kernel.keys = out.k.size(2);
  kernel.dim = out.q.size(3);
  kernel.scale = static_cast<float>(call.scale * std::numbers::log2e);
  kernel.rotation_root = 1.0f / std::sqrt(static_cast<float>(kernel.dim));
  const auto signs = rotation_signs(kernel.dim);
  for (size_t i = 0; i < signs.size(); ++i) {
    kernel.minus[i / 32] |= (signs[i] < 0 ? 1u : 0u) << i % 32;
  }
  out.workspace = at::empty({static_cast<int64_t>(cuda::workspace_nbytes(kernel)) + 1024},
                            out.q.options().dtype(at::kByte));
  const auto base = reinterpret_cast<uintptr_t>(out.workspace.mutable_data_ptr());
  kernel.workspace = reinterpret_cast<void*>((base + 1023) / 1024 * 1024);
  return out;
}

at::Tensor on_cuda(const AttentionCall& call) {
  const at::Device device = call.q.device();
  KernelCall kernel = kernel_call(call);
  const at::Tensor out =
      at::empty({kernel.cuda.batch, kernel.cuda.queries, kernel.cuda.heads * kernel.cuda.dim},
                kernel.q.options());
  kernel.cuda.out = out.mutable_data_ptr();
  const at::DeviceGuard on(device);
  const at::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  const cudaError_t failed =
      cuda::run(kernel.cuda, static_cast<cudaStream_t>(stream.native_handle()));
  TORCH_CHECK(failed == cudaSuccess, "quantized attention failed: ", cudaGetErrorString(failed));
  return out;
}

}  // namespace loadstone::runtime::fp8_attention
