// README.md's arithmetic over tensors on a GPU.
#pragma once

#include "runtime/attention.hpp"

namespace loadstone::runtime::fp8_attention {

/// [B, Lq, H·D] of q's dtype (float32, float16 or bf16), on LibTorch's stream. Needs !causal,
/// takes_head(D) and a GPU of sm90 (what the plan refuses otherwise). Errors: LibTorch's exception
/// where CUDA refuses a launch or the build has no kernels.
at::Tensor on_cuda(const AttentionCall& call);

}  // namespace loadstone::runtime::fp8_attention
