// Weights that are decoded eight values at a time, multiplied with a few rows of x as they are
// read.
#pragma once

#include <cuda_runtime_api.h>
#include <loadstone/plugin.h>

#include <cstdint>

namespace loadstone::common::cuda {

/// y = x·Ŵᵀ + bias, W (n, k) rounded to x's dtype, float32 sums, rounded once. Rows of x and y lie
/// `x_stride` and `y_stride` elements apart.
struct EightsProduct {
  const void* x;
  const void* bias;  // or null
  void* y;
  uint32_t x_dtype, bias_dtype, y_dtype;
  uint64_t m, n, k, x_stride, y_stride;
  cudaStream_t stream;

  static constexpr uint64_t kMost = 16;  // rows of x
};

/// Columns [begin, begin+n) of a call's product.
EightsProduct eights_of(const ls_apply& call, uint64_t begin, uint64_t n, uint64_t k);
/// At most kMost rows of x, F16 or BF16, each at 16 bytes, k a multiple of 8 below 2^31.
bool eights_fit(const EightsProduct& call);

}  // namespace loadstone::common::cuda
