// Activations to 8-bit codes on the device, one pass over memory, bit-equal to the scalar twins
// (common/numerics/fp8.hpp, int8.hpp).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace loadstone::common::cuda {

enum class RowRule {
  fp8_row,      // s = max(a/448, least); x/s
  fp8_tensor,   // s = a/448 of the whole tensor's `given` = a; x·(1/s)
  fp8_fixed,    // s = `given`; x·(1/s)
  int8_row,     // s = a/127; x·(127/a)
  int4_row,     // s = a/7; x·(7/a): int8 codes of -7 to 7
  int8_fixed,   // s = `given`; x/s
  int8_affine,  // x·(1/`given`) + `offset`; s = 1, for the weight's scales hold it
};

/// `m` rows of `k` floats of `dtype` (LS_DTYPE_F32, F16, BF16), `stride` elements apart, to dense
/// codes and m scales: one a row, equal where the rule has one for all. Rows that aren't finite
/// (fp8_tensor: all rows) have the scale NaN. `given`: on the device.
struct RowsCall {
  uint32_t dtype;
  const void* x;
  uint64_t m, k, stride;
  uint8_t* codes;
  float* scales;
  const float* given;
  cudaStream_t stream;
  const float* offset = nullptr;  // int8_affine: on the device
  const float* mul = nullptr;     // k factors on the device: x·mul first, all in x's dtype
};
cudaError_t quantize_rows(RowRule rule, const RowsCall& call);

/// *amax = largest magnitude of call.x (infinity or NaN if there is one).
cudaError_t tensor_amax(const RowsCall& call, float* amax);

/// fp8 in groups of `group` columns (a multiple of 32 that divides k), s = max(a, 1e-10)/448; x/s:
/// the scale of row i, group g at scales[g·m + i].
cudaError_t quantize_groups(const RowsCall& call, uint64_t group);

}  // namespace loadstone::common::cuda
