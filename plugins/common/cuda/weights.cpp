#include "common/cuda/weights.hpp"

#include "common/numerics/floats.hpp"

namespace loadstone::common::cuda {

WeightRows rows_of(const sdk::Begin& begin, const sdk::Piece& piece, const MatrixPart& part,
                   uint64_t k, void* codes, uint64_t row_nbytes) {
  WeightRows out{};
  out.dtype = part.weight.dtype;
  out.at = piece.raw().at;
  out.rows = piece.row_count();
  out.k = k;
  out.stride = piece.raw().row_stride / float_nbytes(part.weight.dtype);
  out.row = part.row_begin + piece.row_begin() - part.part.file_begin;
  out.codes = static_cast<uint8_t*>(codes) + out.row * row_nbytes;
  out.trouble = begin.raw().trouble;
  out.stream = static_cast<cudaStream_t>(piece.raw().stream);
  return out;
}

}  // namespace loadstone::common::cuda
