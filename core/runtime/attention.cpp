#include "runtime/attention.hpp"

#include <ATen/ops/scaled_dot_product_attention.h>

namespace loadstone::runtime {

at::Tensor attention(const AttentionCall& call) {
  const bool grouped = call.q.size(1) != call.k.size(1);
  const at::Tensor out = at::scaled_dot_product_attention(call.q, call.k, call.v, std::nullopt, 0.0,
                                                          call.causal, call.scale, grouped);
  // The kernel's output is [B, Lq, H, D] in memory: no copy.
  return out.transpose(1, 2).reshape({call.q.size(0), call.q.size(2), -1});
}

}  // namespace loadstone::runtime
