// Buffers, pieces and rows: what a method writes stored tensors from and reads them back with.
#pragma once

#include <span>

#include "layer.hpp"

namespace loadstone::sdk {

/// Parallel arrays of buffers (stored or resident tensors), as typed spans.
class Buffers {
 public:
  Buffers() = default;
  Buffers(const ls_buffer* const* buffers, uint64_t count) : buffers_(buffers), count_(count) {}

  uint64_t count() const { return count_; }
  ls_buffer raw(uint64_t index) const {
    if (index >= count_ || buffers_[index] == nullptr) {
      fail(LS_INVALID_ARGUMENT, "buffer " + std::to_string(index) + " is not there");
    }
    return copy_in(buffers_[index]);
  }
  /// Content as `T`s: whole ones only.
  template <typename T>
  std::span<T> as(uint64_t index) const {
    const ls_buffer buffer = raw(index);
    return {static_cast<T*>(buffer.at), buffer.nbytes / sizeof(T)};
  }

 private:
  const ls_buffer* const* buffers_ = nullptr;
  uint64_t count_ = 0;
};

/// ls_begin, copied; its arrays live until the session's end.
class Begin {
 public:
  explicit Begin(const ls_begin* from) : raw_(copy_in(from)) {}

  const ls_begin& raw() const { return raw_; }
  uint64_t note() const { return raw_.note; }
  uint32_t group_begin() const { return raw_.group_begin; }
  uint32_t group_count() const { return raw_.group_count; }
  ls_source source(uint64_t index) const {
    if (index >= raw_.source_count) fail(LS_INVALID_ARGUMENT, "source out of range");
    return copy_in(raw_.sources[index]);
  }
  Buffers stored() const { return {raw_.stored, raw_.stored_count}; }
  Buffers resident() const { return {raw_.resident, raw_.source_count}; }
  template <typename T>
  T* scratch() const {
    return static_cast<T*>(raw_.scratch);
  }

 private:
  ls_begin raw_;
};

/// Whole granules of one source, with its tensor.
class Piece {
 public:
  Piece(const ls_piece* from, const Layer& layer, const Begin& begin)
      : raw_(copy_in(from)), layer_(layer), begin_(begin) {}

  const ls_piece& raw() const { return raw_; }
  const Layer& layer() const { return layer_; }
  uint64_t tag() const { return raw_.tag; }
  uint32_t pass() const { return raw_.pass; }
  uint64_t row_begin() const { return raw_.row_begin; }
  uint64_t row_count() const { return raw_.row_count; }
  /// Read-only bytes of a checked identity, already placed: no source() and no tensor().
  bool is_identity() const { return raw_.source == UINT32_MAX; }
  Tensor tensor() const { return layer_.tensor(begin_.source(raw_.source).tensor); }
  /// Row `row` of the piece, from 0.
  const void* row(uint64_t row) const {
    return static_cast<const char*>(raw_.at) + row * raw_.row_stride;
  }
  /// The layer's output row of the piece's first row (tensors whose rows are output rows).
  uint64_t out_row() const { return layer_.out_row(tensor(), raw_.row_begin); }
  template <typename T>
  T* scratch() const {
    return static_cast<T*>(raw_.scratch);
  }
  template <typename T>
  T* stat() const {
    return static_cast<T*>(raw_.stat);
  }

 private:
  ls_piece raw_;
  const Layer& layer_;
  const Begin& begin_;
};

/// ls_rows, copied: rows [begin, begin+count) of one group's matrix, wanted as float32.
class Rows {
 public:
  Rows(const ls_rows* from, uint64_t in) : raw_(copy_in(from)), in_(in) {}

  const ls_rows& raw() const { return raw_; }
  uint64_t note() const { return raw_.note; }
  uint32_t group() const { return raw_.group; }
  uint64_t begin() const { return raw_.row_begin; }
  uint64_t count() const { return raw_.row_count; }
  Buffers stored() const { return {raw_.stored, raw_.stored_count}; }
  /// Output row `row`, from 0: `in` floats.
  std::span<float> out(uint64_t row) const { return {raw_.out + row * in_, in_}; }

 private:
  ls_rows raw_;
  uint64_t in_;
};

/// A value that a quantizer can't represent is refused where it is met.
inline void require_finite(std::span<const float> values, const Piece& piece, uint64_t row) {
  for (uint64_t i = 0; i < values.size(); ++i) {
    // Exponent all ones: infinity or NaN. Bits, so that no compiler flag can fold it away.
    if ((std::bit_cast<uint32_t>(values[i]) & 0x7f800000u) != 0x7f800000u) continue;
    fail(LS_INVALID_CHECKPOINT, "weight is not finite: " + piece.tensor().label() + ": row " +
                                    std::to_string(piece.row_begin() + row) + ", column " +
                                    std::to_string(i));
  }
}

}  // namespace loadstone::sdk
