// Pieces of weights on their way to codes: rows widened and checked, scales widened and checked.
#pragma once

#include <loadstone/plugin.hpp>
#include <string>

#include "common/layer/matrices.hpp"

namespace loadstone::common {

inline constexpr uint64_t kFeedTasks = 8;  // slices of a feed's scratch

/// Floats of one slice, whole cache lines.
constexpr uint64_t slice_floats(uint64_t floats) { return (floats + 15) / 16 * 16; }
constexpr uint64_t feed_scratch_nbytes(uint64_t floats) {
  return kFeedTasks * slice_floats(floats) * sizeof(float);
}

/// body(first, last, room) over the piece's rows in runs of whole units, on the host's threads;
/// `room` holds `floats` floats of the feed's scratch, which is feed_scratch_nbytes(floats).
template <typename Body>
void for_row_runs(const sdk::Piece& piece, uint64_t unit, uint64_t floats, const Body& body) {
  const uint64_t units = (piece.row_count() + unit - 1) / unit;
  const uint64_t tasks = std::min(kFeedTasks, units);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    float* room = piece.scratch<float>() + task * slice_floats(floats);
    const uint64_t first = units * task / tasks * unit;
    const uint64_t last = std::min(units * (task + 1) / tasks * unit, piece.row_count());
    body(first, last, room);
  });
}

/// Columns [begin, begin+count) of the piece's row `row` as float32. Errors (thrown):
/// LS_INVALID_CHECKPOINT naming row and column of a value that isn't finite.
void widen_finite(const MatrixPart& part, const sdk::Piece& piece, uint64_t row, uint64_t begin,
                  uint64_t count, float* out);

/// Widens scales [begin, begin+count) of a tensor. Errors (thrown): LS_INVALID_CHECKPOINT for NaN,
/// infinity and negative values, with their index.
void widen_scales(const MatrixPart& part, const sdk::Tensor& tensor, const void* from,
                  uint64_t begin, uint64_t count, float* out);

/// LS_INVALID_CHECKPOINT: a scale of 0 over codes that aren't.
[[noreturn]] void refuse_zero_scale(const MatrixPart& part, const sdk::Tensor& scale, uint64_t row);
/// LS_INVALID_CHECKPOINT: a code that is NaN or infinite.
[[noreturn]] void refuse_code(const MatrixPart& part, uint64_t row);

}  // namespace loadstone::common
