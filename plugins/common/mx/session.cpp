#include "common/mx/session.hpp"

#include <algorithm>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/dual.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common::mx {
namespace {

/// Floats of one task: a row of values, and behind it a row of codes, one a byte.
uint64_t room_floats(const Form& form) {
  return slice_floats(form.k) + slice_floats((form.k + 3) / 4);
}
uint8_t* codes_in(const Form& form, float* room) {
  return reinterpret_cast<uint8_t*>(room + slice_floats(form.k));
}

/// LS_INVALID_CHECKPOINT for a byte of 255 in rows of `columns` scales; `first` is the file's row.
void refuse_nan_scale(const PartForm& part, const sdk::Tensor& tensor, const uint8_t* bytes,
                      uint64_t columns, uint64_t rows, uint64_t first) {
  const uint8_t* end = bytes + rows * columns;
  const uint8_t* bad = std::find(bytes, end, kE8m0Nan);
  if (bad == end) return;
  const auto index = static_cast<uint64_t>(bad - bytes);
  sdk::fail(LS_INVALID_CHECKPOINT, "scale rejected: " + full_name(part.part, tensor) +
                                       ": found 255 (NaN) in row " +
                                       std::to_string(first + index / columns) + ", column " +
                                       std::to_string(index % columns) + ", expected at most 254");
}

bool all_zero(const uint8_t* codes, uint64_t n) {
  return std::all_of(codes, codes + n, [](uint8_t code) { return (code & 7) == 0; });
}

}  // namespace

uint64_t scratch_nbytes(const Form& form) { return feed_scratch_nbytes(room_floats(form)); }

Session::Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(form_of(config, layer)), rule_(config.rule), layer_(layer), begin_(begin) {
  if (form_.decodes) {
    own_scales_.resize(form_.rows() * form_.scale_columns());
    own_outer_.resize(form_.rows() * form_.outer_columns());
    own_mul_.resize(form_.has_mul ? form_.groups * form_.k : 0);
    scales_ = own_scales_.data();
    outer_ = own_outer_.data();
    mul_ = own_mul_.data();
    return;
  }
  const sdk::Buffers stored = begin.stored();
  scales_ = stored.as<uint8_t>(1).data();
  if (form_.dual) outer_ = stored.as<float>(form_.outer_index()).data();
  if (form_.has_mul) mul_ = stored.as<float>(form_.mul_index()).data();
}

void Session::feed(const sdk::Piece& piece) {
  std::call_once(residents_read_, [this] { read_residents(); });
  const size_t parts = form_.parts.size();
  const PartForm& part = form_.parts[piece.tag() % parts];
  if (piece.is_identity()) {
    return piece.tag() < parts ? check_weights(piece, part) : check_scales(piece, part);
  }
  if (form_.decodes) return decode(piece, part);
  if (form_.source == Source::values) return encode_values(piece, part);
  quantize(piece, part);
}

void Session::end() {
  std::call_once(residents_read_, [this] { read_residents(); });
  if (!form_.decodes) check_range();
}

// ---- range -------------------------------------------------------------------------------------

/// Whether the row's scales let its largest code leave float32.
bool Session::may_overflow(uint64_t row) const {
  const uint8_t* scales = scales_ + row * form_.scale_columns();
  const double largest = form_.element == MxElement::e4m3 ? 448.0 : 6.0;
  const uint64_t groups = form_.dual ? kDualGroup / kMxGroup : form_.scale_columns();
  for (uint64_t at = 0, g = 0; at < form_.scale_columns(); at += groups, ++g) {
    const double inner = largest * e8m0_decode(mx_top(scales + at, groups));
    const double outer = form_.dual ? outer_[row * form_.outer_columns() + g] : 1.0;
    if (std::max(inner, inner * outer) > std::numeric_limits<float>::max()) return true;
  }
  return false;
}

/// What is stored must decode to numbers: a scale of 2^126 over a code of 4 doesn't.
void Session::check_range() const {
  const Stored stored(form_, begin_.stored());
  std::vector<float> values;
  const uint64_t first = begin_.group_begin() * form_.n;
  for (uint64_t row = first; row < first + begin_.group_count() * form_.n; ++row) {
    if (!may_overflow(row)) continue;
    values.resize(form_.k);
    const float* outer = form_.dual ? stored.outer + row * form_.outer_columns() : nullptr;
    dequantize_row(form_, stored.codes + row * form_.row_nbytes(),
                   stored.scales + row * form_.scale_columns(), outer, values.data());
    if (std::all_of(values.begin(), values.end(), is_finite)) continue;
    const PartForm& part = form_.parts[part_of_row(form_.parts, row)];
    refuse_code(part, row - part.row_begin);
  }
}

// ---- residents ---------------------------------------------------------------------------------

void Session::read_residents() {
  for (uint64_t i = 0; i < begin_.raw().source_count; ++i) {
    const ls_source source = begin_.source(i);
    if (source.mode != LS_SOURCE_RESIDENT || begin_.raw().resident[i] == nullptr) continue;
    const PartForm& part = form_.parts[source.tag];
    const sdk::Tensor tensor = layer_.tensor(source.tensor);
    const void* from = begin_.resident().raw(i).at;
    if (part.mul && tensor.index == part.mul->index) {
      read_mul(part, tensor, from);
    } else if (part.outer && tensor.index == part.outer->index) {
      const uint64_t columns = form_.outer_columns();
      widen_scales(part, tensor, from, part.part.file_begin * columns, part.rows() * columns,
                   outer_ + part.row_begin * columns);
    } else {
      const uint64_t columns = form_.scale_columns();
      const auto* bytes = static_cast<const uint8_t*>(from) + part.part.file_begin * columns;
      std::copy(bytes, bytes + part.rows() * columns, scales_ + part.row_begin * columns);
      refuse_nan_scale(part, tensor, bytes, columns, part.rows(), part.part.file_begin);
    }
  }
}

void Session::read_mul(const PartForm& part, const sdk::Tensor& tensor, const void* from) {
  std::vector<float> values(form_.k);
  widen(tensor.dtype, from, values.data(), form_.k);
  for (uint64_t i = 0; i < form_.k; ++i) {
    float cast = values[i];
    if (layer_.load_dtype() == LS_DTYPE_BF16) cast = bf16_decode(bf16_encode(cast));
    if (layer_.load_dtype() == LS_DTYPE_F16) cast = f16_decode(f16_encode(cast));
    if (is_finite(values[i]) && values[i] > 0.0f && is_finite(cast) && cast > 0.0f) continue;
    const bool lost = is_finite(values[i]) && values[i] > 0.0f;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "smoothing scale rejected: " + full_name(part.part, tensor) + ": found " +
                  (lost ? "a value that " + dtype_name(layer_.load_dtype()) + " can't hold"
                   : is_finite(values[i]) ? "0 or a negative value"
                                          : "NaN or infinity") +
                  " at index " + std::to_string(i) + ", expected finite and more than 0");
  }
  // Fused parts have equal ones, or they were split.
  std::copy(values.begin(), values.end(), mul_ + part.part.group * form_.k);
}

// ---- quantize ----------------------------------------------------------------------------------

void Session::quantize(const sdk::Piece& piece, const PartForm& part) const {
  const uint64_t first = part.row_begin + piece.row_begin() - part.part.file_begin;
  for_row_runs(piece, 1, room_floats(form_), [&](uint64_t begin, uint64_t end, float* room) {
    for (uint64_t r = begin; r < end; ++r) {
      widen_finite(part, piece, r, 0, form_.k, room);
      quantize_row(part, first + r, room, codes_in(form_, room));
    }
  });
}

void Session::quantize_row(const PartForm& part, uint64_t row, float* values,
                           uint8_t* codes) const {
  uint8_t* scales = scales_ + row * form_.scale_columns();
  if (form_.dual) {
    const bool f16 = part.weight.dtype == LS_DTYPE_F16;
    if (part.weight.dtype == LS_DTYPE_F32) {
      for (uint64_t i = 0; i < form_.k; ++i) values[i] = bf16_decode(bf16_encode(values[i]));
    }
    dual_quantize(f16 ? DualDtype::f16 : DualDtype::bf16, values, codes, scales,
                  outer_ + row * form_.outer_columns(), form_.k);
  } else {
    mx_quantize(rule_, form_.element, values, codes, scales, form_.k);
  }
  store_row(row, codes);
}

void Session::store_row(uint64_t row, const uint8_t* codes) const {
  uint8_t* out = begin_.stored().as<uint8_t>(0).data() + row * form_.row_nbytes();
  if (form_.element == MxElement::e4m3) {
    std::copy(codes, codes + form_.k, out);
  } else {
    e2m1_pack(codes, out, form_.k);
  }
}

// ---- values held in wider dtypes
// -----------------------------------------------------------------

void Session::encode_values(const sdk::Piece& piece, const PartForm& part) const {
  const uint64_t in_part = piece.row_begin() - part.part.file_begin;
  for_row_runs(piece, 1, room_floats(form_), [&](uint64_t begin, uint64_t end, float* room) {
    uint8_t* codes = codes_in(form_, room);
    for (uint64_t r = begin; r < end; ++r) {
      encode_row(piece, part, r, room, codes);
      store_row(part.row_begin + in_part + r, codes);
      if (form_.dual) check_outer(part, in_part + r, codes);
    }
  });
}

/// Codes, one a byte, of a row that holds elements' values.
void Session::encode_row(const sdk::Piece& piece, const PartForm& part, uint64_t r, float* room,
                         uint8_t* codes) const {
  const auto refuse = [&](uint64_t column) {
    sdk::fail(LS_INVALID_CHECKPOINT, "weight rejected: " + full_name(part.part, part.weight) +
                                         ": found a value that is no " +
                                         (form_.element == MxElement::e4m3 ? "e4m3" : "e2m1") +
                                         " number in row " + std::to_string(piece.row_begin() + r) +
                                         ", column " + std::to_string(column));
  };
  if (part.weight.dtype == LS_DTYPE_F8_E4M3) {
    const auto* from = static_cast<const uint8_t*>(piece.row(r));
    for (uint64_t i = 0; i < form_.k; ++i) {
      codes[i] = e2m1_from_e4m3(from[i]);
      if (codes[i] == 255) refuse(i);
    }
    return;
  }
  widen_finite(part, piece, r, 0, form_.k, room);
  for (uint64_t i = 0; i < form_.k; ++i) {
    const bool e4m3 = form_.element == MxElement::e4m3;
    codes[i] = e4m3 ? e4m3_encode(room[i]) : e2m1_encode(room[i]);
    if ((e4m3 ? e4m3_decode(codes[i]) : e2m1_decode(codes[i])) != room[i]) refuse(i);
  }
}

// ---- codes as they are
// -----------------------------------------------------------------------------

void Session::check_weights(const sdk::Piece& piece, const PartForm& part) const {
  uint8_t* codes = codes_in(form_, piece.scratch<float>());
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    const auto* row = static_cast<const uint8_t*>(piece.row(r));
    if (form_.element == MxElement::e4m3) {
      uint8_t top = 0;
      for (uint64_t i = 0; i < form_.k; ++i) top = std::max<uint8_t>(top, row[i] & 0x7f);
      if (top == 0x7f) refuse_code(part, piece.row_begin() + r);
    }
    if (!form_.dual) continue;
    e2m1_unpack(row, codes, form_.k);
    check_outer(part, piece.row_begin() + r, codes);
  }
}

void Session::check_scales(const sdk::Piece& piece, const PartForm& part) const {
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    refuse_nan_scale(part, *part.scale, static_cast<const uint8_t*>(piece.row(r)),
                     form_.scale_columns(), 1, part.part.file_begin + piece.row_begin() + r);
  }
}

/// An outer scale of 0 is fine over codes that are 0 only.
void Session::check_outer(const PartForm& part, uint64_t row, const uint8_t* codes) const {
  const float* outer = outer_ + (part.row_begin + row) * form_.outer_columns();
  for (uint64_t g = 0; g < form_.outer_columns(); ++g) {
    if (outer[g] == 0.0f && !all_zero(codes + g * kDualGroup, kDualGroup)) {
      refuse_zero_scale(part, *part.outer, row);
    }
  }
}

// ---- decode
// ----------------------------------------------------------------------------------------

void Session::decode(const sdk::Piece& piece, const PartForm& part) const {
  const ls_buffer out = begin_.stored().raw(0);
  const uint64_t item = float_nbytes(layer_.load_dtype());
  const uint64_t in_part = piece.row_begin() - part.part.file_begin;
  for_row_runs(piece, 1, room_floats(form_), [&](uint64_t begin, uint64_t end, float* room) {
    uint8_t* codes = codes_in(form_, room);
    for (uint64_t r = begin; r < end; ++r) {
      const uint64_t row = part.row_begin + in_part + r;
      if (form_.source == Source::values) {
        encode_row(piece, part, r, room, codes);
      } else if (form_.element == MxElement::e4m3) {
        const auto* from = static_cast<const uint8_t*>(piece.row(r));
        std::copy(from, from + form_.k, codes);
        const bool nan =
            std::any_of(codes, codes + form_.k, [](uint8_t code) { return (code & 0x7f) == 0x7f; });
        if (nan) refuse_code(part, in_part + r);
      } else {
        e2m1_unpack(static_cast<const uint8_t*>(piece.row(r)), codes, form_.k);
      }
      if (form_.dual) check_outer(part, in_part + r, codes);
      dequantize_codes(form_, codes, scales_ + row * form_.scale_columns(),
                       outer_ + row * form_.outer_columns(), room);
      if (!std::all_of(room, room + form_.k, is_finite)) refuse_code(part, in_part + r);
      if (form_.has_mul) {
        const float* mul = mul_ + part.part.group * form_.k;
        for (uint64_t i = 0; i < form_.k; ++i) room[i] *= mul[i];
      }
      narrow(layer_.load_dtype(), room, static_cast<char*>(out.at) + row * form_.k * item, form_.k);
    }
  });
}

// ---- values
// ----------------------------------------------------------------------------------------

Stored::Stored(const Form& form, const sdk::Buffers& buffers)
    : codes(buffers.as<const uint8_t>(0).data()), scales(buffers.as<const uint8_t>(1).data()) {
  if (form.dual) outer = buffers.as<const float>(form.outer_index()).data();
  if (form.has_mul) mul = buffers.as<const float>(form.mul_index()).data();
}

void dequantize_codes(const Form& form, const uint8_t* codes, const uint8_t* scales,
                      const float* outer, float* out) {
  if (form.dual) return dual_dequantize(codes, scales, outer, out, form.k);
  mx_dequantize(form.element, codes, scales, out, form.k);
}

void dequantize_row(const Form& form, const uint8_t* packed, const uint8_t* scales,
                    const float* outer, float* out) {
  if (form.element == MxElement::e4m3) return dequantize_codes(form, packed, scales, outer, out);
  uint8_t codes[kDualGroup];
  for (uint64_t begin = 0; begin < form.k; begin += kDualGroup) {
    const uint64_t n = std::min<uint64_t>(kDualGroup, form.k - begin);
    e2m1_unpack(packed + begin / 2, codes, n);
    if (form.dual) {
      dual_dequantize(codes, scales + begin / kMxGroup, outer + begin / kDualGroup, out + begin, n);
    } else {
      mx_dequantize(form.element, codes, scales + begin / kMxGroup, out + begin, n);
    }
  }
}

void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
  const Form form = form_of(config, layer);
  const uint64_t first = rows.group() * form.n + rows.begin();
  if (form.decodes) {
    const uint64_t item = float_nbytes(layer.load_dtype());
    const auto* at = static_cast<const char*>(rows.stored().raw(0).at) + first * form.k * item;
    return widen(layer.load_dtype(), at, rows.raw().out, rows.count() * form.k);
  }
  const Stored stored(form, rows.stored());
  const float* mul = form.has_mul ? stored.mul + rows.group() * form.k : nullptr;
  const bool raw = rows.raw().raw != 0;
  for (uint64_t r = 0; r < rows.count(); ++r) {
    const uint64_t row = first + r;
    const float* outer = form.dual ? stored.outer + row * form.outer_columns() : nullptr;
    float* out = rows.out(r).data();
    dequantize_row(form, stored.codes + row * form.row_nbytes(),
                   stored.scales + row * form.scale_columns(), outer, out);
    for (uint64_t i = 0; mul != nullptr && !raw && i < form.k; ++i) out[i] *= mul[i];
  }
  if (!raw || mul == nullptr) return;
  if (rows.raw().in_scale != nullptr) std::copy(mul, mul + form.k, rows.raw().in_scale);
  if (rows.raw().has_in_scale != nullptr) *rows.raw().has_in_scale = 1;
}

}  // namespace loadstone::common::mx
