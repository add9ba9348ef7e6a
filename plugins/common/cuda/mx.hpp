// Activations of the MX formats on the device: quantized and decoded again, bit-equal to the scalar
// twin (common/numerics/mx.hpp). Values element·2^(b-127) are exact in bf16.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/numerics/mx.hpp"

namespace loadstone::common::cuda {

/// `m` rows of `k` floats of `dtype`, `stride` elements apart, to dense bf16 values, groups of 32.
/// Groups that aren't finite become NaN. `mul` (k floats, or null) multiplies x first: cast to x's
/// dtype, the product rounded to it.
struct MxRound {
  MxRule rule;
  MxElement element;
  uint32_t dtype;
  const void* x;
  const float* mul;
  uint64_t m, k, stride;
  void* values;
  cudaStream_t stream;
};
cudaError_t mx_round_rows(const MxRound& call);

/// Dual scale (common/numerics/dual.hpp): `m` rows of `k` floats of `dtype`, k a multiple of 512,
/// `stride` elements apart, to dense bf16 values element·2^(b-127), at 16 bytes, and (m, k/512)
/// outer scales. x is cast to bf16 first, float16 without `mul` stays; the product with `mul`
/// (k floats, or null) is rounded to bf16.
struct DualRound {
  uint32_t dtype;
  const void* x;
  const float* mul;
  uint64_t m, k, stride;
  void* values;
  float* scales;
  cudaStream_t stream;
};
cudaError_t dual_round_rows(const DualRound& call);

}  // namespace loadstone::common::cuda
