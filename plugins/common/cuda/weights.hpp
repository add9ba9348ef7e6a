// Pieces of a weight as kernels take them, and the words for what they found in it.
#pragma once

#include <loadstone/plugin.hpp>
#include <vector>

#include "common/cuda/launch.hpp"
#include "common/cuda/produce.hpp"
#include "common/layer/pieces.hpp"

namespace loadstone::common::cuda {

/// The piece's rows; `row_nbytes` of codes a row, from `codes` of the layer's first row.
WeightRows rows_of(const sdk::Begin& begin, const sdk::Piece& piece, const MatrixPart& part,
                   uint64_t k, void* codes, uint64_t row_nbytes);

/// LS_INVALID_CHECKPOINT, naming part and row, for a status word that isn't 0.
template <typename Part>
void refuse_trouble(const std::vector<Part>& parts, uint32_t word) {
  if (word == 0) return;
  const uint64_t row = row_of_trouble(word);
  const Part& part = parts[part_of_row(parts, row)];
  refuse_code(part, row - part.row_begin);
}

}  // namespace loadstone::common::cuda
