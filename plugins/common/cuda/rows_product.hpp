// The product of codes for shapes that tensor cores don't take: any m, n and k, any alignment,
// scales a row or a group of columns. Plain arithmetic units, 20 to 100 times slower: plans name
// it "simt".
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace loadstone::common::cuda {

/// y[i][j] = Σ_g (Σ_{k∈g} x·w)·(x_scale[g·m + i]·w_scale[j·w_groups + g]) + bias[j], one group:
/// x_scale[i]·(w_scale[j]·(Σ x·w + constants[j])) + bias[j]. x (m, k) and W (n, k) dense codes: both I8 (exact
/// sums), or F8_E4M3 with F8_E4M3 or F8_E5M2. y and bias F32, F16 or BF16.
struct RowsProduct {
  uint32_t x_dtype, w_dtype, y_dtype, bias_dtype;
  uint64_t m, n, k, group, w_groups, y_stride;
  const void *x, *w;
  const float *x_scale, *w_scale;
  const void* bias;  // or null
  void* y;
  cudaStream_t stream;
  const int32_t* constants;  // one group of I8; or null
};
cudaError_t rows_product(const RowsProduct& call);

}  // namespace loadstone::common::cuda
