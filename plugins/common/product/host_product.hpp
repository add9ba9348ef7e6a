// The host's product (ls_host::gemm), as the products of this folder call it.
#pragma once

#include <cstdint>

namespace loadstone::common {

/// y = x·wᵀ, float32, dense: x (m,k), w (n,k), y (m,n). Throws sdk::Failure where the host can't.
void host_product(const float* x, const float* w, float* y, uint64_t m, uint64_t n, uint64_t k);

}  // namespace loadstone::common
