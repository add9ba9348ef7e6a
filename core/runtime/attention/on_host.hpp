// fp8.hpp's arithmetic over tensors on the host, by LibTorch's products and threads.
#pragma once

#include "runtime/attention.hpp"

namespace loadstone::runtime::fp8_attention {

/// [B, Lq, H·D] of q's dtype. Needs !causal and takes_head(D).
at::Tensor on_host(const AttentionCall& call);

}  // namespace loadstone::runtime::fp8_attention
