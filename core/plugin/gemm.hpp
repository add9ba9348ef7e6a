// The built-in product behind host->gemm: what a process without LibTorch multiplies with.
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>
#include <vector>

#include "base/parallel.hpp"
#include "base/result.hpp"

namespace loadstone::plugin {

/// y = x·wᵀ as ls_gemm says, on the host. Float dtypes are widened exactly and summed in float32
/// (any order: within (k+8)·2^-24·Σ|x·w|); I8 is summed exactly in integers. Threads share columns
/// of y; `pool` null: the caller's thread alone. The kernel is the widest that the processor has,
/// or LOADSTONE_CPU=scalar|avx2|avx512|avx512vnni.
/// Errors: unsupported (dtype, place), invalid_argument (null pointers, unknown LOADSTONE_CPU).
Status product(const ls_gemm& call, ThreadPool* pool);

namespace detail {

/// Up to 4 rows of x against up to 4 rows of w over k columns: sums[i*4+j] += x_i·w_j.
using DotTile = void (*)(const float* const* x, const float* const* w, uint64_t k, float* sums);

struct Kernel {
  const char* name;
  DotTile dot;
  int32_t (*dot_i8)(const int8_t* x, const int8_t* w, uint64_t k);  // k ≤ 2^16
};

/// All that this processor can run, the scalar one first.
const std::vector<Kernel>& kernels();

}  // namespace detail

}  // namespace loadstone::plugin
