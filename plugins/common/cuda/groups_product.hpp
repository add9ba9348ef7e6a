// y = x·Wᵀ of bf16 values whose scales hold for groups of columns on both sides: what cublasLt
// can't do, since the sums of a group are scaled before they are added up.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace loadstone::common::cuda {

/// y[i][j] = Σ_g (Σ_{k∈g} x[i][k]·w[j][k])·(x_scale[i][g]·w_scale[j][g]) + bias[j], rounded once:
/// float32 sums of tensor cores, groups in order. x (m, k) and w (n, k) are dense, at 16 bytes;
/// x's scales lie `x_row` and `x_group` elements apart, w's are (n, k/group); `group` divides k and
/// is a multiple of kDepth. bias and y are F32, F16 or BF16, rows of y `y_stride` elements apart.
struct GroupsProduct {
  const void* x;
  const void* w;
  const float* x_scale;
  const float* w_scale;
  const void* bias;  // or null
  void* y;
  uint32_t bias_dtype, y_dtype;
  uint64_t m, n, k, group, x_row, x_group, y_stride;
  cudaStream_t stream;

  static constexpr uint64_t kDepth = 64;
};
cudaError_t groups_product(const GroupsProduct& call);

}  // namespace loadstone::common::cuda
