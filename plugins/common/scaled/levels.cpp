// Rows of integer codes as levels and as values.
#include <algorithm>

#include "common/codecs/e4m3.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/numerics/int8.hpp"
#include "common/scaled/views.hpp"

namespace loadstone::common::scaled {
namespace {

float zero_at(const Form& form, const PartView& view, uint64_t row, uint64_t column) {
  if (form.spec.codes == Codes::words) {
    if (view.zeros == nullptr) return static_cast<float>(1u << (form.spec.bits - 1));
    const auto* words = reinterpret_cast<const uint32_t*>(view.zeros) + column;
    return static_cast<float>(packed_int_at(words, form.scale_columns, row, form.spec.bits));
  }
  if (view.zeros == nullptr) return 0.0f;
  return value_at(form.tensor(0, kZero), view.zeros,
                  form.scale_row(row) * form.scale_columns + column);
}

/// The codes themselves.
void widen_codes(const Form& form, uint64_t row, const uint8_t* codes, uint64_t begin,
                 uint64_t count, float* out) {
  if (form.spec.codes == Codes::words) {
    const auto* words = reinterpret_cast<const uint32_t*>(codes) + begin / 32 * form.spec.bits;
    return packed_ints_widen(words, form.spec.bits, out, count);
  }
  if (form.spec.codes == Codes::int8) {
    return int8_dequantize(reinterpret_cast<const int8_t*>(codes) + begin, 1.0f, out, count);
  }
  for (uint64_t i = 0; i < count; ++i) {
    const int nibble = codes[begin + i] >> (row % 2 * 4) & 15;
    out[i] = static_cast<float>(nibble >= 8 ? nibble - 16 : nibble);
  }
}

/// body(column of scales, begin, end) for the runs of columns that share a scale.
template <typename Body>
void for_runs(const Form& form, uint64_t begin, uint64_t end, const Body& body) {
  for (uint64_t at = begin; at < end;) {
    const uint64_t column = at / form.scale_width;
    const uint64_t stop = std::min(end, (column + 1) * form.scale_width);
    body(column, at, stop);
    at = stop;
  }
}

}  // namespace

void scales_of_row(const Form& form, const PartView& view, uint64_t row, float* scales,
                   float* zeros) {
  const sdk::Tensor& scale = form.tensor(0, kScale);
  const uint64_t first = form.scale_row(row) * form.scale_columns;
  widen(scale.dtype, view.scales + first * float_nbytes(scale.dtype), scales, form.scale_columns);
  for (uint64_t c = 0; c < form.scale_columns; ++c) zeros[c] = zero_at(form, view, row, c);
}

void level_row(const Form& form, const PartView& view, uint64_t row, const uint8_t* codes,
               uint64_t begin, uint64_t count, float* out) {
  widen_codes(form, row, codes, begin, count, out);
  if (form.spec.codes != Codes::words && view.zeros == nullptr) return;
  if (view.zeros == nullptr) {
    return packed_ints_scale(out, zero_at(form, view, row, 0), 1.0f, count);
  }
  for (uint64_t i = 0; view.order != nullptr && i < count; ++i) {
    out[i] -= zero_at(form, view, row, static_cast<uint64_t>(view.order[begin + i]));
  }
  if (view.order != nullptr) return;
  for_runs(form, begin, begin + count, [&](uint64_t column, uint64_t at, uint64_t stop) {
    packed_ints_scale(out + (at - begin), zero_at(form, view, row, column), 1.0f, stop - at);
  });
}

void dequantize_row(const Form& form, const PartView& view, uint64_t row, const uint8_t* codes,
                    float* out) {
  if (form.spec.codes == Codes::e2m1) {
    const auto* scales = reinterpret_cast<const uint8_t*>(view.scales);
    return nvfp4_dequantize(form.spec.order, codes, scales + row * form.scale_columns, view.global,
                            out, form.k, form.scale_width);
  }
  const sdk::Tensor& scale = form.tensor(0, kScale);
  const uint64_t first = form.scale_row(row) * form.scale_columns;
  const auto scale_at = [&](uint64_t column) {
    const float value = value_at(scale, view.scales, first + column);
    return form.spec.scale_holds_input ? value / view.divisor : value;
  };
  if (view.order != nullptr) {
    level_row(form, view, row, codes, 0, form.k, out);
    for (uint64_t i = 0; i < form.k; ++i) out[i] *= scale_at(static_cast<uint64_t>(view.order[i]));
    return;
  }
  if (form.spec.codes != Codes::e4m3) widen_codes(form, row, codes, 0, form.k, out);
  for_runs(form, 0, form.k, [&](uint64_t column, uint64_t at, uint64_t stop) {
    const float s = scale_at(column);
    if (form.spec.codes == Codes::e4m3) return fp8_dequantize(codes + at, s, out + at, stop - at);
    packed_ints_scale(out + at, zero_at(form, view, row, column), s, stop - at);
  });
}

}  // namespace loadstone::common::scaled
