#include "int8/session.hpp"

#include <algorithm>

#include "common/layer/pieces.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/int8.hpp"

namespace loadstone::int8 {

Session::Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(form_of(config, layer)), layer_(layer), begin_(begin) {
  if (form_.decodes) {
    own_scales_.resize(form_.n * form_.groups);
    scales_ = own_scales_.data();
  } else {
    scales_ = begin.stored().as<float>(1).data();
  }
}

void Session::feed(const sdk::Piece& piece) {
  const PartForm& part = form_.parts[piece.tag()];
  if (!form_.serialized) return quantize(piece, part);
  std::call_once(scales_read_, [this] { read_scales(); });
  if (!piece.is_identity()) return decode(piece, part);
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    check_scaled(static_cast<const int8_t*>(piece.row(r)), part, piece.row_begin() + r);
  }
}

void Session::end() {
  std::call_once(scales_read_, [this] { read_scales(); });
}

void Session::quantize(const sdk::Piece& piece, const PartForm& part) const {
  const auto codes = begin_.stored().as<int8_t>(0);
  const uint64_t first = part.row_begin + piece.row_begin() - part.part.file_begin;
  common::for_row_runs(piece, 1, form_.k, [&](uint64_t begin, uint64_t end, float* room) {
    for (uint64_t r = begin; r < end; ++r) {
      common::widen_finite(part, piece, r, 0, form_.k, room);
      int8_t* out = codes.data() + (first + r) * form_.k;
      scales_[first + r] = common::int8_quantize_row(room, out, form_.k);
    }
  });
}

void Session::read_scales() {
  for (uint64_t i = 0; i < begin_.raw().source_count; ++i) {
    const ls_source source = begin_.source(i);
    if (source.mode != LS_SOURCE_RESIDENT || begin_.raw().resident[i] == nullptr) continue;
    const PartForm& part = form_.parts[source.tag];
    common::widen_scales(part, *part.scale, begin_.resident().raw(i).at, part.part.file_begin,
                         part.rows(), scales_ + part.row_begin);
  }
}

/// A zero scale is fine over zero codes only, a large one where the products stay in float32.
void Session::check_scaled(const int8_t* codes, const PartForm& part, uint64_t row) const {
  const float scale = scales_[part.row_begin + row];
  if (scale != 0.0f && common::is_finite(scale * 128.0f)) return;
  for (uint64_t i = 0; i < form_.k; ++i) {
    if (scale == 0.0f && codes[i] != 0) common::refuse_zero_scale(part, *part.scale, row);
    if (!common::is_finite(scale * static_cast<float>(codes[i]))) common::refuse_code(part, row);
  }
}

void Session::decode(const sdk::Piece& piece, const PartForm& part) const {
  const ls_buffer out = begin_.stored().raw(0);
  const uint64_t item = common::float_nbytes(layer_.load_dtype());
  const uint64_t in_part = piece.row_begin() - part.part.file_begin;
  float* room = piece.scratch<float>();
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    const auto* codes = static_cast<const int8_t*>(piece.row(r));
    const uint64_t row = part.row_begin + in_part + r;
    check_scaled(codes, part, in_part + r);
    common::int8_dequantize(codes, scales_[row], room, form_.k);
    common::narrow(layer_.load_dtype(), room, static_cast<char*>(out.at) + row * form_.k * item,
                   form_.k);
  }
}

}  // namespace loadstone::int8
