#include "fp8/session.hpp"

#include <algorithm>
#include <limits>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/e5m2.hpp"
#include "common/layer/pieces.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"

namespace loadstone::fp8 {
namespace {

/// Floats that quantizing needs at once: a row, or one block.
uint64_t room_floats(const Form& form) {
  const bool blocks = !form.serialized() && form.granularity == Granularity::block;
  return blocks ? std::min(form.block_columns, form.k) * form.block_rows : form.k;
}

/// Largest code magnitude.
uint8_t top_code(const uint8_t* codes, uint64_t n) {
  uint8_t top = 0;
  for (uint64_t i = 0; i < n; ++i) top = std::max<uint8_t>(top, codes[i] & 0x7f);
  return top;
}

/// The largest magnitude that is a number.
uint8_t last_finite(const Form& form) { return form.code_dtype == LS_DTYPE_F8_E4M3 ? 0x7e : 0x7b; }

float value_of(const Form& form, uint8_t code) {
  return form.code_dtype == LS_DTYPE_F8_E4M3 ? common::e4m3_decode(code)
                                             : common::e5m2_decode(code);
}

}  // namespace

uint64_t feed_scratch_nbytes(const Form& form) {
  return common::feed_scratch_nbytes(room_floats(form));
}

uint64_t stat_nbytes(const Form& form) { return form.parts_per_group * sizeof(float); }

Session::Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(form_of(config, layer)), layer_(layer), begin_(begin) {
  if (form_.decodes) {
    own_scales_.resize(form_.scale_rows * form_.scale_columns);
    stored_scales_ = own_scales_.data();
  } else {
    stored_scales_ = begin.stored().as<float>(1).data();
  }
}

void Session::feed(const sdk::Piece& piece) {
  const PartForm& part = form_.parts[piece.tag()];
  if (!form_.serialized()) {
    const bool gathers = piece.pass() == 1 && piece.stat<void>() != nullptr;
    return gathers ? gather(piece, part) : quantize(piece, part);
  }
  std::call_once(scales_read_, [this] { read_scales(); });
  if (piece.is_identity()) return check_codes(piece, part);
  decode(piece, part);
}

void Session::end(const void* stat, uint32_t) {
  if (!form_.serialized() && form_.granularity == Granularity::tensor) {
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      const uint32_t group = form_.parts[i].part.group;
      if (group < begin_.group_begin() || group - begin_.group_begin() >= begin_.group_count()) {
        continue;
      }
      const float amax = static_cast<const float*>(stat)[stat_index(form_.parts[i])];
      stored_scales_[i] = common::fp8_tensor_scale(amax);
    }
  }
  std::call_once(scales_read_, [this] { read_scales(); });
}

uint64_t Session::stat_index(const PartForm& part) const {
  const auto index = static_cast<uint64_t>(&part - form_.parts.data());
  const uint64_t group = part.part.group - begin_.group_begin();
  return group * form_.parts_per_group + index % form_.parts_per_group;
}

// ---- quantize floats -------------------------------------------------------------------------

void Session::gather(const sdk::Piece& piece, const PartForm& part) {
  float amax = 0;
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    float* row = piece.scratch<float>();
    common::widen_finite(part, piece, r, 0, form_.k, row);
    amax = std::max(amax, common::max_magnitude(row, form_.k));
  }
  float* stat = piece.stat<float>();
  std::fill(stat, stat + begin_.group_count() * form_.parts_per_group, 0.0f);
  stat[stat_index(part)] = amax;
}

void Session::quantize(const sdk::Piece& piece, const PartForm& part) {
  const bool blocks = form_.granularity == Granularity::block;
  common::for_row_runs(piece, blocks ? form_.block_rows : 1, room_floats(form_),
                       [&](uint64_t begin, uint64_t end, float* room) {
                         if (blocks) {
                           quantize_bands(piece, part, room, begin, end);
                         } else {
                           quantize_rows(piece, part, room, begin, end);
                         }
                       });
}

void Session::quantize_rows(const sdk::Piece& piece, const PartForm& part, float* room,
                            uint64_t begin, uint64_t end) {
  const auto codes = begin_.stored().as<uint8_t>(0);
  const uint64_t first = part.row_begin + piece.row_begin() - part.part.file_begin;
  for (uint64_t r = begin; r < end; ++r) {
    common::widen_finite(part, piece, r, 0, form_.k, room);
    uint8_t* out = codes.data() + (first + r) * form_.k;
    if (form_.granularity == Granularity::tensor) {
      const float amax = piece.stat<float>()[stat_index(part)];
      common::fp8_quantize_tensor(room, common::fp8_tensor_scale(amax), amax, out, form_.k);
    } else {
      stored_scales_[first + r] = common::fp8_quantize_row(room, out, form_.k);
    }
  }
}

void Session::quantize_bands(const sdk::Piece& piece, const PartForm& part, float* room,
                             uint64_t begin, uint64_t end) {
  const auto codes = begin_.stored().as<uint8_t>(0);
  const uint64_t in_part = piece.row_begin() - part.part.file_begin;
  for (uint64_t r = begin; r < end; r += form_.block_rows) {
    const uint64_t rows = std::min(form_.block_rows, end - r);
    const uint64_t scale_row = part.block_row(in_part + r, form_.block_rows);
    float* row_scales = stored_scales_ + scale_row * form_.scale_columns;
    for (uint64_t block = 0; block < form_.scale_columns; ++block) {
      const uint64_t column = block * form_.block_columns;
      const uint64_t width = std::min(form_.block_columns, form_.k - column);
      for (uint64_t i = 0; i < rows; ++i) {
        common::widen_finite(part, piece, r + i, column, width, room + i * width);
      }
      uint8_t* out = codes.data() + (part.row_begin + in_part + r) * form_.k + column;
      row_scales[block] = common::fp8_quantize_block(room, rows, width, out, form_.k);
    }
  }
}

// ---- serialized -------------------------------------------------------------------------------

void Session::read_scales() {
  for (uint64_t i = 0; i < begin_.raw().source_count; ++i) {
    const ls_source source = begin_.source(i);
    if (source.mode != LS_SOURCE_RESIDENT || begin_.raw().resident[i] == nullptr) continue;
    const PartForm& part = form_.parts[source.tag];
    const sdk::Tensor tensor = layer_.tensor(source.tensor);
    const void* from = begin_.resident().raw(i).at;
    if (part.input_scale && tensor.index == part.input_scale->index) {
      read_input_scale(part, from, source.tag);
    } else {
      read_weight_scales(part, from, source.tag);
    }
  }
}

void Session::read_input_scale(const PartForm& part, const void* from, uint64_t index) {
  float* out = begin_.stored().as<float>(2).data() + index;
  common::widen_scales(part, *part.input_scale, from, 0, 1, out);
  if (*out != 0.0f) return;
  sdk::fail(LS_INVALID_CHECKPOINT,
            "scale rejected: " + common::full_name(part.part, *part.input_scale) +
                ": found 0, expected more than 0");
}

void Session::read_weight_scales(const PartForm& part, const void* from, uint64_t index) {
  uint64_t begin = 0, count = 1;
  float* out = stored_scales_ + index;
  if (form_.granularity == Granularity::channel) {
    begin = part.part.file_begin;
    count = part.rows();
    out = stored_scales_ + part.row_begin;
  } else if (form_.granularity == Granularity::block) {
    begin = part.block_first * form_.scale_columns;
    count = part.block_count * form_.scale_columns;
    out = stored_scales_ + part.block_begin * form_.scale_columns;
  }
  common::widen_scales(part, *part.scale, from, begin, count, out);
  const float most = std::numeric_limits<float>::max() / value_of(form_, last_finite(form_));
  for (uint64_t s = 0; s < count; ++s) {
    looks_at_scales_ = looks_at_scales_ || out[s] == 0.0f || out[s] > most;
  }
}

void Session::check_codes(const sdk::Piece& piece, const PartForm& part) const {
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    const auto* codes = static_cast<const uint8_t*>(piece.row(r));
    const uint64_t row = piece.row_begin() + r;  // of the part: its identity is one block
    if (top_code(codes, form_.k) > last_finite(form_)) common::refuse_code(part, row);
    if (looks_at_scales_) check_scaled(codes, part, row);
  }
}

/// Zero scales are fine over zero codes only, large ones where the products stay in float32.
void Session::check_scaled(const uint8_t* codes, const PartForm& part, uint64_t row) const {
  const float* scale = form_.row_scales(stored_scales_, part.row_begin + row);
  const uint64_t width = form_.scale_columns == 1 ? form_.k : form_.block_columns;
  for (uint64_t c = 0; c < form_.scale_columns; ++c) {
    const uint64_t n = std::min(width, form_.k - c * width);
    const uint8_t top = top_code(codes + c * width, n);
    if (scale[c] == 0.0f && top != 0) common::refuse_zero_scale(part, *part.scale, row);
    if (!common::is_finite(scale[c] * value_of(form_, top))) common::refuse_code(part, row);
  }
}

void Session::decode(const sdk::Piece& piece, const PartForm& part) const {
  const ls_buffer out = begin_.stored().raw(0);
  const uint64_t item = common::float_nbytes(layer_.load_dtype());
  const uint64_t in_part = piece.row_begin() - part.part.file_begin;
  float* room = piece.scratch<float>();
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    const auto* codes = static_cast<const uint8_t*>(piece.row(r));
    if (top_code(codes, form_.k) > last_finite(form_)) common::refuse_code(part, in_part + r);
    if (looks_at_scales_) check_scaled(codes, part, in_part + r);
    const uint64_t row = part.row_begin + in_part + r;
    dequantize_row(form_, codes, form_.row_scales(stored_scales_, row), room);
    common::narrow(layer_.load_dtype(), room, static_cast<char*>(out.at) + row * form_.k * item,
                   form_.k);
  }
}

void dequantize_row(const Form& form, const uint8_t* codes, const float* scales, float* out) {
  const uint64_t width = form.scale_columns == 1 ? form.k : form.block_columns;
  for (uint64_t c = 0; c < form.scale_columns; ++c) {
    const uint64_t at = c * width, n = std::min(width, form.k - at);
    if (form.code_dtype == LS_DTYPE_F8_E4M3) {
      common::fp8_dequantize(codes + at, scales[c], out + at, n);
    } else {
      common::e5m2_decode(codes + at, out + at, n);
      for (uint64_t i = 0; i < n; ++i) out[at + i] *= scales[c];
    }
  }
}

void dequantize_rows(const Form& form, const uint8_t* codes, const float* scales, uint64_t begin,
                     uint64_t count, float* out) {
  for (uint64_t r = 0; r < count; ++r) {
    dequantize_row(form, codes + (begin + r) * form.k, form.row_scales(scales, begin + r),
                   out + r * form.k);
  }
}

}  // namespace loadstone::fp8
