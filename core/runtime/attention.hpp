// The one place where attention is computed. Networks say what and where; which kernel runs is
// decided here.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace loadstone::runtime {

struct AttentionCall {
  at::Tensor q;         // [B, H, Lq, D], any strides with the last one 1
  at::Tensor k;         // [B, Hkv, Lk, D]; H is a multiple of Hkv
  at::Tensor v;         // [B, Hkv, Lk, D]
  double scale = 0;     // of q·kᵀ
  bool causal = false;  // query i sees keys up to i (Lq = Lk)
  bool fp8 = false;     // by attention/README.md's arithmetic; not causal, takes_fp8(D)
};

/// Whether cuDNN computes it, not LibTorch's own choice: 16-bit types on sm90 and newer from 1,024
/// queries on, where it is about twice as fast as flash attention.
bool takes_cudnn(const AttentionCall& call);
/// Whether heads of this size can run with e4m3 operands.
bool takes_fp8(int64_t dim);

/// softmax(scale·q·kᵀ)·v as [B, Lq, H·D], dense.
at::Tensor attention(const AttentionCall& call);

}  // namespace loadstone::runtime
