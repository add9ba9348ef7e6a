// Weights to codes on the device, while they are loaded: bit-equal to what the host makes of them
// (common/numerics/fp8.hpp, int8.hpp, mx.hpp).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/numerics/mx.hpp"

namespace loadstone::common::cuda {

/// `rows` rows of `k` floats of `dtype` (LS_DTYPE_F32, F16, BF16), `stride` elements apart; `row`
/// is the first one's number in the layer. Codes go to `codes`, the first row's, dense. `trouble`
/// (on the device, zero): becomes trouble_of(r) for the first row r that isn't finite.
struct WeightRows {
  uint32_t dtype;
  const void* at;
  uint64_t rows, k, stride;
  uint64_t row;
  uint8_t* codes;
  uint32_t* trouble;
  cudaStream_t stream;
};

constexpr uint32_t trouble_of(uint64_t row) { return UINT32_MAX - static_cast<uint32_t>(row); }
constexpr uint64_t row_of_trouble(uint32_t word) { return UINT32_MAX - word; }

/// fp8 with a scale a row (fp8_quantize_row), `scales` the first row's.
cudaError_t produce_fp8_rows(const WeightRows& weight, float* scales);

/// The largest magnitude of these rows, into a float that is zero: pass 1 of fp8 with one scale.
cudaError_t produce_amax(const WeightRows& weight, float* amax);
/// Pass 2 (fp8_quantize_tensor): `amax` of the whole part, on the device; *scale is written.
cudaError_t produce_fp8_tensor(const WeightRows& weight, const float* amax, float* scale);

/// fp8 in blocks of block_rows × block_columns (fp8_quantize_block) that begin at the first row;
/// the last ones may be smaller. Row b of `scales` has ceil(k / block_columns) of them.
cudaError_t produce_fp8_blocks(const WeightRows& weight, uint64_t block_rows,
                               uint64_t block_columns, float* scales);

/// int8 with a scale a row (int8_quantize_row).
cudaError_t produce_int8_rows(const WeightRows& weight, float* scales);

/// MX groups of 32 along the row, the last one maybe shorter (mx_quantize): a byte a code, or two
/// e2m1 codes a byte, even column low (k even). `scales`: mx_groups(k) bytes a row.
cudaError_t produce_mx(const WeightRows& weight, MxRule rule, MxElement element, uint8_t* scales);

}  // namespace loadstone::common::cuda
