#include "common/scaled/session.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/codecs/e4m3.hpp"
#include "common/layer/pieces.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/numerics/int8.hpp"

namespace loadstone::common::scaled {
namespace {

/// Whether any code of the columns under scale `column` means something else than 0.
bool any_code(const Form& form, const PartView& view, uint64_t row, const uint8_t* codes,
              uint64_t column) {
  const uint64_t begin = view.order != nullptr ? 0 : column * form.scale_width;
  const uint64_t end = view.order != nullptr ? form.k : std::min(form.k, begin + form.scale_width);
  const auto is_its = [&](uint64_t i) {
    return view.order == nullptr || static_cast<uint64_t>(view.order[i]) == column;
  };
  if (form.spec.codes == Codes::e4m3 || form.spec.codes == Codes::e2m1) {
    const bool pairs = form.spec.codes == Codes::e2m1;
    for (uint64_t i = begin; i < end; ++i) {
      if ((pairs ? codes[i / 2] >> (i % 2 * 4) & 7 : codes[i] & 0x7f) != 0) return true;
    }
    return false;
  }
  float levels[32];
  for (uint64_t at = begin / 32 * 32; at < end; at += 32) {
    const uint64_t count = std::min<uint64_t>(32, form.k - at);
    level_row(form, view, row, codes, at, count, levels);
    for (uint64_t i = std::max(at, begin); i < std::min(at + count, end); ++i) {
      if (levels[i - at] != 0.0f && is_its(i)) return true;
    }
  }
  return false;
}

struct Wanted {
  const char *found, *expected;  // found: null where the value fits
};

/// What is wrong with a scale, a zero point or an offset.
Wanted judge(const Spec& spec, Which which, float value) {
  const bool positive = which == kInput || which == kPre;
  Wanted out{nullptr, positive ? "finite and more than 0" : "finite and at least 0"};
  if (which == kZero) out.expected = spec.zeros_vanish ? "0" : "finite";
  if (which == kInputOffset) out.expected = "-128 to 127";
  const bool any_sign = which == kZero || (which == kScale && spec.signed_scales);
  if (any_sign && which == kScale) out.expected = "finite";
  if (value != value) {
    out.found = "NaN";
  } else if (!is_finite(value)) {
    out.found = "infinity";
  } else if (which == kInputOffset) {
    if (value < -128.0f || value > 127.0f) out.found = "a value out of range";
  } else if (which == kZero && spec.zeros_vanish) {
    if (value != 0.0f) out.found = "another value";
  } else if (value < 0.0f) {
    if (!any_sign) out.found = "a negative value";
  } else if (value == 0.0f && positive) {
    out.found = "0";
  }
  return out;
}

/// Whether such values may take a product out of float32. Each bound leaves the others room: codes
/// are below 2^9, zero points count as codes, and a global or an input scale may divide.
bool is_extreme(Which which, float value) {
  const float size = std::abs(value);
  if (which == kZero) return size > 0x1p10f;
  const bool divides = which == kGlobal || which == kInput;
  return (which == kScale || which == kPre || divides) &&
         (size > 0x1p30f || (divides && size < 0x1p-50f));
}

}  // namespace

uint64_t decode_scratch_nbytes(const Form& form) { return feed_scratch_nbytes(form.k); }

Session::Session(Form form, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(std::move(form)), layer_(layer), begin_(begin) {}

void Session::feed(const sdk::Piece& piece) {
  const size_t index = piece.tag() % form_.parts.size();
  const auto which = static_cast<Which>(piece.tag() / form_.parts.size());
  const PartForm& part = form_.parts[index];
  if (!piece.is_identity()) {
    std::call_once(residents_read_, [this] { read_residents(); });
    return decode(piece, index);
  }
  for (uint64_t r = 0; r < piece.row_count(); ++r) {
    const uint64_t row = piece.row_begin() + r;
    if (which == kWeight) {
      check_codes(part, static_cast<const uint8_t*>(piece.row(r)), row);
    } else if (which == kOrder) {
      check_order(part, piece.row(r));
    } else if (which == kConstant) {
      check_constants(part, piece.row(r), 1, row);
    } else {
      const bool grid = which == kScale || which == kZero;
      const uint64_t columns = which == kPre ? form_.k : grid ? form_.scale_columns : 1;
      check_scales(part, which, piece.row(r), columns, row * columns);
    }
  }
}

/// Zero scales are fine over zero codes only, extreme ones where the products stay in float32: both
/// are in place now.
void Session::end() {
  if (form_.decodes) return std::call_once(residents_read_, [this] { read_residents(); });
  if (!any_zero_ && !any_extreme_) return;
  const auto views = stored_views(form_, begin_.stored());
  const auto* codes = static_cast<const uint8_t*>(begin_.stored().raw(0).at);
  for (size_t i = 0; i < form_.parts.size(); ++i) {
    const PartForm& part = form_.parts[i];
    const uint32_t group = part.part.group;
    if (group < begin_.group_begin() || group - begin_.group_begin() >= begin_.group_count()) {
      continue;
    }
    for (uint64_t r = 0; r < part.rows(); ++r) {
      const uint64_t row = (part.row_begin + r) / form_.rows_a_row();
      const uint8_t* at = codes + row * form_.row_nbytes();
      if (any_zero_) check_zeros(i, views[i], r, at);
      if (any_extreme_) check_range(i, views[i], r, at);
    }
  }
}

void Session::read_residents() {
  std::vector<const char*>& at = residents_at_;
  at.assign(form_.parts.size() * kWhichCount, nullptr);
  for (uint64_t i = 0; i < begin_.raw().source_count; ++i) {
    const ls_source source = begin_.source(i);
    if (source.mode != LS_SOURCE_RESIDENT || begin_.raw().resident[i] == nullptr) continue;
    at[source.tag] = static_cast<const char*>(begin_.resident().raw(i).at);
  }
  views_.resize(form_.parts.size());
  for (size_t part = 0; part < form_.parts.size(); ++part) {
    const auto whole = [&](Which which) { return at[which * form_.parts.size() + part]; };
    if (whole(kScale) == nullptr) continue;  // a group of another session
    for (uint32_t i = kScale; i < kWhichCount; ++i) {
      const auto which = static_cast<Which>(i);
      const char*& own = at[which * form_.parts.size() + part];
      if (own == nullptr) continue;
      const Cut cut = cut_of(form_, part, which);
      own += cut.src_offset;
      check_resident(part, which, own, cut);
    }
    views_[part] = view_of(form_, part, whole);
  }
}

void Session::check_resident(size_t index, Which which, const char* from, const Cut& cut) {
  const PartForm& part = form_.parts[index];
  const sdk::Tensor& tensor = *part.tensors[which];
  const uint64_t item = item_nbytes(tensor);
  if (which == kOrder) return check_order(part, from);
  if (which == kConstant) {
    return check_constants(part, from, cut.nbytes / item, cut.src_offset / item);
  }
  if (which == kZero && any_zero_fits(form_.spec, tensor)) return;
  check_scales(part, which, from, cut.nbytes / item, cut.src_offset / item);
}

void Session::check_codes(const PartForm& part, const uint8_t* codes, uint64_t row) const {
  if (form_.spec.codes == Codes::int8 && form_.spec.bits < 8) {
    const int low = -(1 << (form_.spec.bits - 1));
    for (uint64_t i = 0; i < form_.k; ++i) {
      const int code = static_cast<int8_t>(codes[i]);
      if (code >= low && code < -low) continue;
      sdk::fail(LS_INVALID_CHECKPOINT, "code rejected: " + full_name(part.part, part.weight) +
                                           ": found " + std::to_string(code) + " at row " +
                                           std::to_string(row) + ", expected " +
                                           std::to_string(low) + " to " + std::to_string(-low - 1));
    }
  }
  if (form_.spec.codes != Codes::e4m3) return;
  uint8_t top = 0;
  for (uint64_t i = 0; i < form_.k; ++i) top = std::max<uint8_t>(top, codes[i] & 0x7f);
  if (top == 0x7f) refuse_code(part, row);
}

void Session::check_scales(const PartForm& part, Which which, const void* from, uint64_t count,
                           uint64_t first) {
  const sdk::Tensor& tensor = *part.tensors[which];
  std::vector<float> values(count);
  if (tensor.dtype == LS_DTYPE_F8_E4M3) {
    e4m3_decode(static_cast<const uint8_t*>(from), values.data(), count);
  } else if (tensor.is_float()) {
    widen(tensor.dtype, from, values.data(), count);
  } else {
    if (tensor.dtype == LS_DTYPE_I64) check_bits(part, tensor, from, count, first);
    for (uint64_t i = 0; i < count; ++i) values[i] = value_at(tensor, from, i);
  }
  for (uint64_t i = 0; i < count; ++i) {
    if (values[i] == 0.0f && (which == kScale || which == kGlobal)) any_zero_ = true;
    if (is_extreme(which, values[i])) any_extreme_ = true;
    const Wanted wanted = judge(form_.spec, which, values[i]);
    if (wanted.found == nullptr) continue;
    const char* what = which == kZero ? "zero point" : which == kInputOffset ? "offset" : "scale";
    sdk::fail(LS_INVALID_CHECKPOINT, std::string(what) +
                                         " rejected: " + full_name(part.part, tensor) + ": found " +
                                         wanted.found + " at index " + std::to_string(first + i) +
                                         ", expected " + wanted.expected);
  }
}

/// The low half of an I64 holds the bits of a float32, the high half nothing.
void Session::check_bits(const PartForm& part, const sdk::Tensor& tensor, const void* from,
                         uint64_t count, uint64_t first) const {
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, static_cast<const char*>(from) + i * sizeof bits, sizeof bits);
    if (bits >> 32 == 0) continue;
    sdk::fail(LS_INVALID_CHECKPOINT, "scale rejected: " + full_name(part.part, tensor) +
                                         ": found more than 32 bits at index " +
                                         std::to_string(first + i) +
                                         ", expected the bits of a float32");
  }
}

void Session::check_constants(const PartForm& part, const void* from, uint64_t count,
                              uint64_t first) const {
  const int64_t most = INT32_MAX - static_cast<int64_t>(form_.k) * 128 * 128;
  for (uint64_t i = 0; i < count; ++i) {
    int32_t value = 0;
    std::memcpy(&value, static_cast<const char*>(from) + i * sizeof value, sizeof value);
    if (value >= -most && value <= most) continue;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "constant rejected: " + full_name(part.part, *part.tensors[kConstant]) + ": found " +
                  std::to_string(value) + " at index " + std::to_string(first + i) +
                  ", expected at most " + std::to_string(most) + " either way (int32 sums)");
  }
}

/// A constant without a bias beside it may only undo the activation's offset.
void Session::check_bias(size_t index, uint64_t row, const uint8_t* codes) const {
  const PartForm& part = form_.parts[index];
  if (!form_.has(kConstant) || part.bias) return;
  const auto at = [&](Which which) { return residents_at_[which * form_.parts.size() + index]; };
  int32_t constant = 0;
  std::memcpy(&constant, at(kConstant) + row * sizeof constant, sizeof constant);
  const double offset = value_at(*part.tensors[kInputOffset], at(kInputOffset), 0);
  int64_t sum = 0;
  for (uint64_t i = 0; i < form_.k; ++i) sum += static_cast<int8_t>(codes[i]);
  if (std::abs(constant + offset * static_cast<double>(sum)) <= 0.5) return;
  sdk::fail(LS_UNSUPPORTED, "weight can't stand alone: " + full_name(part.part, part.weight) +
                                ": found its bias in row " + std::to_string(row) + " of \"" +
                                form_.spec.names[kConstant] + "\" alone, expected \"bias\" too");
}

void Session::check_order(const PartForm& part, const void* from) const {
  const auto* groups = static_cast<const int32_t*>(from);
  for (uint64_t i = 0; i < form_.k; ++i) {
    if (groups[i] >= 0 && static_cast<uint64_t>(groups[i]) < form_.scale_columns) continue;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "group index out of range: " + full_name(part.part, *part.tensors[kOrder]) +
                  ": found " + std::to_string(groups[i]) + " at column " + std::to_string(i) +
                  ", expected 0 to " + std::to_string(form_.scale_columns - 1));
  }
}

void Session::check_zeros(size_t index, const PartView& view, uint64_t row,
                          const uint8_t* codes) const {
  const PartForm& part = form_.parts[index];
  for (uint64_t c = 0; view.global == 0.0f && c < form_.scale_columns; ++c) {
    if (any_code(form_, view, row, codes, c)) refuse_zero_scale(part, *part.tensors[kGlobal], row);
  }
  const uint64_t scale_row = form_.scale_row(row);
  const sdk::Tensor& scale = *part.tensors[kScale];
  for (uint64_t c = 0; c < form_.scale_columns; ++c) {
    const uint64_t at = scale_row * form_.scale_columns + c;
    const bool zero = value_at(scale, view.scales, at) == 0.0f;
    if (zero && any_code(form_, view, row, codes, c)) refuse_zero_scale(part, scale, row);
  }
}

void Session::check_range(size_t index, const PartView& view, uint64_t row,
                          const uint8_t* codes) const {
  std::vector<float> values(form_.k);
  dequantize_row(form_, view, row, codes, values.data());
  for (uint64_t i = 0; i < view.pre.size(); ++i) values[i] *= view.pre[i];
  if (!is_finite(max_magnitude(values.data(), form_.k))) refuse_code(form_.parts[index], row);
}

void Session::decode(const sdk::Piece& piece, size_t index) const {
  const PartForm& part = form_.parts[index];
  const PartView& view = views_[index];
  const uint64_t pair = form_.rows_a_row(), item = float_nbytes(layer_.load_dtype());
  char* to = static_cast<char*>(begin_.stored().raw(0).at);
  for_row_runs(piece, 1, form_.k, [&](uint64_t begin, uint64_t end, float* room) {
    for (uint64_t r = begin; r < end; ++r) {
      const auto* codes = static_cast<const uint8_t*>(piece.row(r));
      for (uint64_t half = 0; half < pair; ++half) {
        const uint64_t row = (piece.row_begin() + r) * pair + half - part.part.file_begin;
        check_codes(part, codes, row);
        if (any_zero_) check_zeros(index, view, row, codes);
        if (any_extreme_) check_range(index, view, row, codes);
        check_bias(index, row, codes);
        dequantize_row(form_, view, row, codes, room);
        for (uint64_t i = 0; i < view.pre.size(); ++i) room[i] *= view.pre[i];
        narrow(layer_.load_dtype(), room, to + (part.row_begin + row) * form_.k * item, form_.k);
      }
    }
  });
}

}  // namespace loadstone::common::scaled
