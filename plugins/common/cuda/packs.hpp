// Integer weights in 32-bit words (common/int_packs) on the device: decoded to floats, or
// multiplied with a few rows of x as they are read.
#pragma once

#include <cuda_runtime_api.h>

#include "common/cuda/eights.hpp"
#include "common/int_packs/int_packs.hpp"

namespace loadstone::common::cuda {

/// Rows [begin, begin+count) of W to `out`, dense, of `dtype` (F32, F16, BF16): scale · (q - zero)
/// in float32, rounded once. Every packing, width and g_idx.
cudaError_t decode_packs(const int_packs::Matrix& w, uint64_t begin, uint64_t count, void* out,
                         uint32_t dtype, cudaStream_t stream);

/// y[i][n] = Σ_g scale[g][n]·(Σ_{k∈g} x[i][k]·(q[k][n] - zero[g][n])) + bias[n], rounded once:
/// whole numbers on tensor cores, float32 sums. Rows of x and y lie `x_stride` and `y_stride`
/// elements apart.
struct FewRows {
  int_packs::Matrix w;
  const void* x;
  const void* bias;  // or null
  void* y;
  uint32_t x_dtype, bias_dtype, y_dtype;
  uint64_t m, x_stride, y_stride;
  cudaStream_t stream;

  static constexpr uint64_t kMost = 16;  // rows of x
};

/// 4 bits in gptq's order, not shuffled by g_idx, groups of whole 32 columns, N below 2^28, K below
/// 2^27.
bool has_few_rows(const int_packs::Matrix& w, bool shuffled);
/// Such a matrix, words and scales at 16 bytes; at most kMost rows of x, F16 or BF16, each at 16
/// bytes.
bool few_rows_fit(const FewRows& call);
/// W is read before the kernel in front of it in the stream has ended (sm 90 and later): it must
/// have been written before that one was launched.
cudaError_t few_rows(const FewRows& call);

/// The same of every packing, width and g_idx, by values rounded to x's dtype; eights_fit(call).
cudaError_t words_few_rows(const int_packs::Matrix& w, const EightsProduct& call);

}  // namespace loadstone::common::cuda
