// Sums of a product to its outputs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace loadstone::common::cuda {

/// y[i][j] = x_scale[i]·(w_scale[j]·(sums[i][j] + constants[j])) + bias[j], rounded once. `sums` dense (m, n), exact
/// int32 or float32; scales and bias may be null. y and bias: F32, F16 or BF16.
struct Finish {
  const void* sums;
  bool integers;
  const float *x_scale, *w_scale;
  const void* bias;
  uint32_t bias_dtype, y_dtype;
  uint64_t m, n, y_stride;
  void* y;
  cudaStream_t stream;
  const int32_t* constants;  // of integer sums; or null
};
cudaError_t finish_sums(const Finish& call);

/// y[i][j] += bias[j], rounded once more.
cudaError_t add_bias(void* y, uint32_t y_dtype, uint64_t m, uint64_t n, uint64_t y_stride,
                     const void* bias, uint32_t bias_dtype, cudaStream_t stream);

}  // namespace loadstone::common::cuda
