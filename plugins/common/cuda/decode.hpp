// Weights to floats on the device: rows of codes times their scales, rounded once to the wanted
// dtype (values that it holds are exact).
#pragma once

#include <cuda_runtime_api.h>

#include "common/cuda/scale_map.hpp"

namespace loadstone::common::cuda {

enum class CodeKind { e4m3, e5m2, int8, e2m1 };  // e2m1: two a byte, even column low
enum class ScaleKind { f32, e8m0, f32_in_i64, bf16, f16 };

/// W of k columns: a row is k codes (k/2 bytes of e2m1). The scale of row r and column c is
/// scales[map.scale_row(r)·scale_columns + c / scale_width].
struct CodedMatrix {
  CodeKind kind = CodeKind::e4m3;
  ScaleKind scale_kind = ScaleKind::f32;
  const uint8_t* codes = nullptr;
  const void* scales = nullptr;
  uint64_t n = 0, k = 0, scale_columns = 1, scale_width = 0;
  ScaleMap map;
  const int32_t* constants = nullptr;  // int8: of rows, added to sums

  LOADSTONE_ON_BOTH uint64_t row_nbytes() const { return kind == CodeKind::e2m1 ? k / 2 : k; }
};

/// Rows [begin, begin+count) to `out`, dense, of `dtype` (F32, F16, BF16).
cudaError_t decode_rows(const CodedMatrix& w, uint64_t begin, uint64_t count, void* out,
                        uint32_t dtype, cudaStream_t stream);

/// Rows ids[0..count) to rows of `out`, `stride` elements apart; NaN where an id is out of range.
cudaError_t gather_rows(const CodedMatrix& w, const int64_t* ids, uint64_t id_stride,
                        uint64_t count, void* out, uint64_t stride, uint32_t dtype,
                        cudaStream_t stream);

/// out[r·columns + c] = scales[map.scale_row(r)·columns + c] as float32, rows [0, n).
cudaError_t expand_scales(const CodedMatrix& w, uint64_t columns, float* out, cudaStream_t stream);

}  // namespace loadstone::common::cuda
