// Weights of scaled codes of every width (common/scaled/form.hpp) on the device: values, or levels
// that are exact in bf16 beside their scales; and activations of the same kind.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/numerics/nvfp4.hpp"

namespace loadstone::common::cuda {

enum class LevelCodes { e4m3, int8, int4, words, e2m1 };

/// What rows [begin, end) of W have beside their codes; pointers are of the first row.
struct LevelPart {
  uint32_t begin = 0, end = 0;
  const void* scales = nullptr;
  const void* zeros = nullptr;     // or null
  const int32_t* order = nullptr;  // group of each column, or null
  const void* global = nullptr;    // e2m1's; or null
  const void* divisor = nullptr;   // of scales; or null
};

/// Passed to kernels by value. int4: two rows share a row of bytes. Dtypes are those of LS_DTYPE_*:
/// scales F32, F16, BF16, F8_E4M3 (e2m1) or I64 that holds a float32; zeros of int8 I8 or floats,
/// of words a stream of codes along the rows.
struct Levels {
  static constexpr int kMaxParts = 16;

  LevelCodes codes = LevelCodes::int8;
  Nvfp4Order order = Nvfp4Order::multiplied;
  uint32_t bits = 8;
  uint32_t scale_dtype = 0, zero_dtype = 0, global_dtype = 0, divisor_dtype = 0;
  const uint8_t* at = nullptr;
  uint64_t n = 0, k = 0, row_nbytes = 0, scale_columns = 1, scale_width = 0;
  uint64_t scale_height = 1;  // rows that share a row of scales; 0: all of a part
  int count = 0;
  LevelPart parts[kMaxParts];
};

/// Rows [begin, begin+count) to `out`, dense, of `dtype` (F32, F16, BF16), rounded once.
cudaError_t decode_values(const Levels& w, uint64_t begin, uint64_t count, void* out,
                          uint32_t dtype, cudaStream_t stream);
/// The same without scales, in bf16, exact: q - zero; of e2m1 q·sc.
cudaError_t decode_levels(const Levels& w, uint64_t begin, uint64_t count, void* out,
                          cudaStream_t stream);
/// What decode_levels leaves out: (n, columns) scales; of e2m1 one column, the global scale.
cudaError_t level_scales(const Levels& w, uint64_t columns, float* out, cudaStream_t stream);

/// Rows ids[0..count) as values to rows of `out`, `stride` elements apart; NaN where an id is out
/// of range.
cudaError_t gather_values(const Levels& w, const int64_t* ids, uint64_t id_stride, uint64_t count,
                          void* out, uint64_t stride, uint32_t dtype, cudaStream_t stream);

/// (m, k) floats of `dtype`, `stride` elements apart, times k factors, rounded to `dtype`, dense.
cudaError_t smooth_rows(uint32_t dtype, const void* x, uint64_t m, uint64_t k, uint64_t stride,
                        const float* mul, void* out, cudaStream_t stream);

/// Activations as NVFP4 (numerics/nvfp4.hpp): (m, k) floats of `dtype`, `stride` elements apart, to
/// dense bf16 values q·sc and m scales 1/g. `input`: one float on the device, g (`divides`) or 1/g.
/// `mul`: k factors, or null, the product rounded to x's dtype.
struct Nvfp4Round {
  uint32_t dtype;
  const void* x;
  const float* mul;
  const float* input;
  bool divides;
  uint64_t m, k, stride;
  void* values;
  float* scales;
  cudaStream_t stream;
};
cudaError_t nvfp4_round_rows(const Nvfp4Round& call);

}  // namespace loadstone::common::cuda
