// Passes of a transformer's block, each by one kernel on a GPU. Every function says whether it did
// it: false, with nothing touched, on the CPU, in builds without CUDA, on GPUs that the kernels
// aren't built for, for other types than float32, float16 and bf16, mixed types, and layouts that
// the kernels don't read; LibTorch's operators do those. Arithmetic in float32, results rounded
// once. Errors: LibTorch's exception where CUDA refuses a launch, as from its own operators.
#pragma once

#include <ATen/core/Tensor.h>

namespace loadstone::runtime::fused {

/// out = ((x - mean)/sqrt(var + eps))·(1 + scale) + shift, rows of x and out [rows, width] with
/// last stride 1; scale and shift [width], dense.
bool layer_norm_modulated(at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                          const at::Tensor& shift, double eps);
/// x += gate·(y + bias), rows of x and y [rows, width] with last stride 1; gate and bias [width],
/// dense; bias may be undefined.
bool add_gated(at::Tensor& x, const at::Tensor& gate, const at::Tensor& y, const at::Tensor& bias);
/// The two above, one after the other: x += gate·(y + bias), then out of x. `out` isn't x.
bool add_gated_then_norm(at::Tensor& out, at::Tensor& x, const at::Tensor& gate,
                         const at::Tensor& y, const at::Tensor& bias, const at::Tensor& scale,
                         const at::Tensor& shift, double eps);
/// x = gelu(x + bias), the tanh form; x and bias as above.
bool gelu_tanh(at::Tensor& x, const at::Tensor& bias);

/// Heads of every row, as cuda/rotary.hpp defines them.
struct Heads {
  const at::Tensor& from;  // [batch·positions, (q + 2·kv)·dim], last stride 1
  at::Tensor& to;          // [batch, S, (q + 2·kv)·dim], last stride 1
  int64_t offset;          // rows [offset, offset + positions) of `to`; may be `from` itself
  int64_t q, kv, dim;
  const at::Tensor& bias;                 // [(q + 2·kv)·dim], added first, or undefined
  const at::Tensor &q_weight, &k_weight;  // [dim], or undefined: no norm
  double q_eps, k_eps;
  const at::Tensor &cosine, &sine;  // float32 [positions, dim/2]
};
bool place_heads(const Heads& heads);

}  // namespace loadstone::runtime::fused
