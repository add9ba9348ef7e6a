// Stored tensors of a scaled layer checked or decoded, and their values.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "common/scaled/form.hpp"

namespace loadstone::common::scaled {

uint64_t decode_scratch_nbytes(const Form& form);

/// Bytes of one element of a scale, a zero point or a constant.
uint64_t item_nbytes(const sdk::Tensor& tensor);
/// Any whole number is a zero point, unless they must vanish.
bool any_zero_fits(const Spec& spec, const sdk::Tensor& tensor);
/// Element `index` of scales, zero points or offsets, widened. I64 holds the bits of a float32.
float value_at(const sdk::Tensor& tensor, const void* from, uint64_t index);

/// What a row of one part needs beside its codes.
struct PartView {
  const char* scales = nullptr;    // of the part's first row, as in the file
  const char* zeros = nullptr;     // likewise; null: none
  const int32_t* order = nullptr;  // group of each column; null: in order
  float global = 1.0f;
  float divisor = 1.0f;    // input_scale, where scales hold it
  std::vector<float> pre;  // empty: none
};

/// The views of all parts over stored tensors.
std::vector<PartView> stored_views(const Form& form, const sdk::Buffers& stored);

/// A row's scales and zero points, scale_columns of each, of codes that have both and no order of
/// columns.
void scales_of_row(const Form& form, const PartView& view, uint64_t row, float* scales,
                   float* zeros);

/// Levels q - z of columns [begin, begin+count) of a row of int8, int4 or words codes: exact, as
/// floats. `codes` as for dequantize_row; `begin` a multiple of 32.
void level_row(const Form& form, const PartView& view, uint64_t row, const uint8_t* codes,
               uint64_t begin, uint64_t count, float* out);

/// Row `row` of the part from the bytes that hold it (int4: those of its pair), without pre_scale.
void dequantize_row(const Form& form, const PartView& view, uint64_t row, const uint8_t* codes,
                    float* out);

/// ls_rows as the interface wants it: folded with pre_scale, or raw with it beside.
void dequantize(const Form& form, const sdk::Layer& layer, const sdk::Rows& rows);

/// Errors (thrown): LS_INVALID_CHECKPOINT for codes that are NaN or wider than their bits, scales
/// that are NaN, infinite or (unless Spec allows it) negative, scales of 0 over codes that aren't,
/// input and smoothing scales that aren't positive, groups of columns that don't exist, offsets out
/// of range, zero points that should vanish, constants beyond int32 sums, codes whose values leave
/// float32 under their scales. LS_UNSUPPORTED for
/// decoding a weight whose bias stands in its constant alone.
class Session {
 public:
  Session(Form form, const sdk::Layer& layer, const sdk::Begin& begin);
  void feed(const sdk::Piece& piece);
  void end();

 private:
  void read_residents();
  void check_resident(size_t part, Which which, const char* from, const Cut& cut);
  void check_codes(const PartForm& part, const uint8_t* codes, uint64_t row) const;
  void check_scales(const PartForm& part, Which which, const void* from, uint64_t count,
                    uint64_t first);
  void check_order(const PartForm& part, const void* from) const;
  void check_constants(const PartForm& part, const void* from, uint64_t count,
                       uint64_t first) const;
  void check_bits(const PartForm& part, const sdk::Tensor& tensor, const void* from, uint64_t count,
                  uint64_t first) const;
  void check_bias(size_t part, uint64_t row, const uint8_t* codes) const;
  void check_zeros(size_t part, const PartView& view, uint64_t row, const uint8_t* codes) const;
  void check_range(size_t part, const PartView& view, uint64_t row, const uint8_t* codes) const;
  void decode(const sdk::Piece& piece, size_t part) const;

  const Form form_;
  const sdk::Layer& layer_;
  const sdk::Begin& begin_;
  std::once_flag residents_read_;
  std::vector<PartView> views_;            // decode
  std::vector<const char*> residents_at_;  // decode: by Which and part, from the part's first row
  std::atomic<bool> any_zero_{false};
  std::atomic<bool> any_extreme_{false};  // a scale or zero point that may take a product too far
};

}  // namespace loadstone::common::scaled
