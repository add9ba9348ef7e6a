#include "common/layer/pieces.hpp"

#include <cmath>

#include "common/numerics/floats.hpp"

namespace loadstone::common {
namespace {

const char* kind_of(float scale) {
  if (scale < 0.0f) return "a negative value";
  return std::isnan(scale) ? "NaN" : "infinity";
}

}  // namespace

void widen_finite(const MatrixPart& part, const sdk::Piece& piece, uint64_t row, uint64_t begin,
                  uint64_t count, float* out) {
  const uint64_t item = float_nbytes(part.weight.dtype);
  widen(part.weight.dtype, static_cast<const char*>(piece.row(row)) + begin * item, out, count);
  if (is_finite(max_magnitude(out, count))) return;
  uint64_t column = 0;
  while (is_finite(out[column])) ++column;
  sdk::fail(LS_INVALID_CHECKPOINT, "weight is not finite: " + full_name(part.part, part.weight) +
                                       ": row " + std::to_string(piece.row_begin() + row) +
                                       ", column " + std::to_string(begin + column));
}

void widen_scales(const MatrixPart& part, const sdk::Tensor& tensor, const void* from,
                  uint64_t begin, uint64_t count, float* out) {
  const uint64_t item = float_nbytes(tensor.dtype);
  widen(tensor.dtype, static_cast<const char*>(from) + begin * item, out, count);
  for (uint64_t i = 0; i < count; ++i) {
    if (is_finite(out[i]) && !(out[i] < 0.0f)) continue;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "scale rejected: " + full_name(part.part, tensor) + ": found " + kind_of(out[i]) +
                  " at index " + std::to_string(begin + i) + ", expected finite and at least 0");
  }
}

void refuse_zero_scale(const MatrixPart& part, const sdk::Tensor& scale, uint64_t row) {
  sdk::fail(LS_INVALID_CHECKPOINT, "scale rejected: " + full_name(part.part, scale) +
                                       ": found 0 over codes that aren't 0 in row " +
                                       std::to_string(part.part.file_begin + row) +
                                       ", expected more than 0");
}

void refuse_code(const MatrixPart& part, uint64_t row) {
  sdk::fail(LS_INVALID_CHECKPOINT, "weight is not finite: " + full_name(part.part, part.weight) +
                                       ": row " + std::to_string(part.part.file_begin + row));
}

}  // namespace loadstone::common
