// Products of 8-bit codes on Hopper with scales and bias in the epilogue: sums never leave the
// registers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace loadstone::common::cuda {

/// y[i][j] = x_scale[i]·(w_scale[j]·(Σ x·w + constants[j])) + bias[j], rounded once. x (m, k) and W
/// (n, k) dense codes of `dtype` (I8 or F8_E4M3); sums of I8 are exact, of F8_E4M3 float32 of the
/// tensor core's sums of 128 products. y and bias F32, F16 or BF16, rows of y `y_stride` elements
/// apart.
struct CodeTiles {
  uint32_t dtype;
  const void *x, *w;
  const float *x_scale, *w_scale;
  const int32_t* constants;  // of I8; or null
  const void* bias;          // or null
  uint32_t bias_dtype, y_dtype;
  uint64_t m, n, k, y_stride;
  void* y;
  cudaStream_t stream;
};

/// Whether the current GPU has the kernel, tensors lie as it wants them (k a multiple of 16, n of
/// 8, codes and rows of y at 16 bytes) and the tiles are enough to fill half of the chip.
bool code_tiles_fit(const CodeTiles& call);

cudaError_t code_tiles(const CodeTiles& call);

}  // namespace loadstone::common::cuda
