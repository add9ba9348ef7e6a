// Row-wise arithmetic that transformers share, one pass over memory each (on a GPU where
// runtime/fused.hpp has a kernel, else by LibTorch's operators). Matrices are dense [rows, width]
// of float32 or bf16; sums run in float32; per-column vectors are dense, of the same dtype, and
// apply to all rows.
#pragma once

#include <ATen/core/Tensor.h>

namespace loadstone::networks {

/// LayerNorm without weights, then modulation: ((x - mean)/sqrt(var + eps))·(1 + scale) + shift.
at::Tensor layer_norm_modulated(const at::Tensor& x, const at::Tensor& scale,
                                const at::Tensor& shift, double eps);
/// x/sqrt(mean(x²) + eps)·weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
/// x += gate·(y + bias), in place; bias may be undefined, and is on the CPU.
void add_gated(at::Tensor& x, const at::Tensor& gate, const at::Tensor& y,
               const at::Tensor& bias = {});
/// The two above, one after the other: add_gated to x, then layer_norm_modulated of it.
at::Tensor add_gated_then_norm(at::Tensor& x, const at::Tensor& gate, const at::Tensor& y,
                               const at::Tensor& bias, const at::Tensor& scale,
                               const at::Tensor& shift, double eps);
/// silu(a)·b for x = [a, b] side by side: [rows, 2·width] → [rows, width].
at::Tensor swiglu(const at::Tensor& x);

}  // namespace loadstone::networks
