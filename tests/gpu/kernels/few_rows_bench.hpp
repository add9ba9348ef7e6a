// Test side only: rates at which packed weights are multiplied with a few rows of x.
#pragma once

#include <cstdint>

namespace loadstone::gpu_kernels {

/// Prints, for W (n, k), bytes of packed weights a second at 1 to 16 rows: calls of one recorded
/// graph that take turns at copies of W, more than the second-level cache holds.
void bench_few_rows(uint64_t n, uint64_t k);

}  // namespace loadstone::gpu_kernels
