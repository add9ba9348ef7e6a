// The product that plugins call, through LibTorch.
#pragma once

#include <loadstone/plugin.h>

namespace loadstone::runtime {

/// ls_host::gemm: y = x·wᵀ, float32 (int8: exact), scaled where scales are given. Host memory only.
int32_t torch_gemm(const ls_gemm* call);

}  // namespace loadstone::runtime
