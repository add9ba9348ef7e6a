// Of builds with CUDA: what the kernels are handed of a call. For on_cuda.cpp and tests.
#pragma once

#include "runtime/attention.hpp"
#include "runtime/attention/cuda/attention.hpp"

namespace loadstone::runtime::fp8_attention {

struct KernelCall {
  at::Tensor q, k, v;    // that `cuda` reads: the call's, or dense copies
  at::Tensor workspace;  // bytes, cuda.workspace lies in it
  cuda::Call cuda;       // without `out`
};
KernelCall kernel_call(const AttentionCall& call);

}  // namespace loadstone::runtime::fp8_attention
