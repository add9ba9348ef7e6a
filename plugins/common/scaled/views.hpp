// Values of a scaled layer's rows, from the bytes that hold them.
#pragma once

#include <functional>
#include <vector>

#include "common/scaled/form.hpp"

namespace loadstone::common::scaled {

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

/// `at(which)`: the part's first byte of what it has, else null.
PartView view_of(const Form& form, size_t part, const std::function<const char*(Which)>& at);

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

}  // namespace loadstone::common::scaled
