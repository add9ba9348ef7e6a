// ggml's blocks to floats on the device: bit-equal to common/ggml's decoders before the one
// rounding to the output's dtype.
#pragma once

#include <cuda_runtime_api.h>
#include <loadstone/plugin.h>

#include "common/cuda/eights.hpp"
#include "common/ggml/types.hpp"

namespace loadstone::common::cuda {

inline constexpr uint64_t kGgmlRun = 8;  // values that a thread decodes at a time

/// Rows [begin, begin+count) of a matrix of k columns, a multiple of kGgmlRun: `at` is row `begin`,
/// rows dense, F32, F16, BF16 or whole blocks.
struct GgmlRun {
  ggml::Type type;
  const uint8_t* at;
  uint64_t begin, count, k;
};

/// Puts the grids of IQ types on the current GPU; nothing for others. Waits for the copy.
cudaError_t ggml_prepare(ggml::Type type);

/// Rows [row, row+count) of the run (row 0 is its first) to `out`, dense, of `dtype` (F32, F16,
/// BF16).
cudaError_t ggml_decode(const GgmlRun& run, uint64_t row, uint64_t count, void* out, uint32_t dtype,
                        cudaStream_t stream);

/// A few rows of x times the run's rows: call.n of them, from its first; eights_fit(call).
cudaError_t ggml_few_rows(const GgmlRun& run, const EightsProduct& call);

/// out[i] = row ids[i·id_stride] for ids in the run, rows of out `stride` elements apart; others
/// are left. With `n` not 0, ids outside [0, n) become NaN.
struct GgmlGather {
  const int64_t* ids;
  uint64_t id_stride, count, n, stride;
  void* out;
  uint32_t dtype;
  cudaStream_t stream;
};
cudaError_t ggml_gather(const GgmlRun& run, const GgmlGather& gather);

}  // namespace loadstone::common::cuda
