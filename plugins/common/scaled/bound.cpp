#include "common/scaled/bound.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/digest.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/numerics/int8.hpp"
#include "common/product/few.hpp"
#include "common/product/nibbles.hpp"
#include "common/product/rows.hpp"

namespace loadstone::common::scaled {
namespace {

/// One row of the pair that `bytes` hold.
void int4_decode(const uint8_t* bytes, uint64_t row, int8_t* out, uint64_t n) {
  const int shift = row % 2 == 0 ? 4 : 0;
  for (uint64_t i = 0; i < n; ++i) {
    out[i] = static_cast<int8_t>(static_cast<int8_t>(bytes[i] << shift) >> 4);
  }
}

/// Columns that share a product's scale; 0: a row.
uint64_t product_group(const Form& form) {
  const bool grouped = form.spec.codes != Codes::e2m1 && form.scale_columns > 1;
  return grouped || form.spec.input == Input::fp8_group ? form.scale_width : 0;
}

float round_to(uint32_t dtype, float value) {
  if (dtype == LS_DTYPE_BF16) return bf16_decode(bf16_encode(value));
  return dtype == LS_DTYPE_F16 ? f16_decode(f16_encode(value)) : value;
}

/// A product of two values of `dtype`, which the factor is cast to first.
float smoothed(uint32_t dtype, float x, float factor) {
  return round_to(dtype, x * round_to(dtype, factor));
}

}  // namespace

Bound::Bound(Form form, const sdk::Binding& binding)
    : form_(std::move(form)),
      views_(stored_views(form_, binding.stored)),
      codes_(static_cast<const uint8_t*>(binding.stored.raw(0).at)),
      weights_(weights_of(binding.layer)) {
  first_part_.assign(form_.groups, form_.parts.size());
  for (size_t i = form_.parts.size(); i-- > 0;) first_part_[form_.parts[i].part.group] = i;
  const auto one_of = [&](size_t part, Which which) {
    const auto* at = static_cast<const char*>(binding.stored.raw(form_.stored_index(which)).at);
    return value_at(form_.tensor(part, which), at + cut_of(form_, part, which).dst_offset, 0);
  };
  for (uint32_t g = 0; g < form_.groups && form_.has(kInput); ++g) {
    const float value = one_of(first_part_[g], kInput);
    if (form_.has(kInputOffset)) input_offsets_.push_back(one_of(first_part_[g], kInputOffset));
    const bool divides = form_.spec.order != Nvfp4Order::multiplied;
    input_scales_.push_back(divides ? 1.0f / value : value);
    input_factors_.push_back(divides ? value : 1.0f / value);
  }
  if (form_.weight_only()) return;
  if (form_.has(kConstant)) {
    constants_ = static_cast<int32_t*>(binding.stored.raw(form_.stored_index(kConstant)).at);
  }
  const bool codes = form_.spec.codes == Codes::int8 || form_.spec.codes == Codes::int4;
  const bool exact =
      codes && form_.scale_columns == 1 && form_.spec.scale != Scale::block && !form_.has_zeros();
  if (is_integer(form_.spec.input) && exact) {
    int8_.emplace(Int8Shape{form_.n, form_.k});
  } else {
    coded_.emplace(CodedShape{form_.n, form_.k, product_group(form_)});
  }
  read_scales();
  set_key();
}

void Bound::read_scales() {
  const sdk::Tensor& scale = form_.tensor(0, kScale);
  const uint64_t columns = form_.scale_columns;
  const bool blocks = form_.spec.scale == Scale::block, e2m1 = form_.spec.codes == Codes::e2m1;
  for (size_t i = 0; i < form_.parts.size(); ++i) {
    const PartForm& part = form_.parts[i];
    const uint64_t rows = blocks ? part.block_count : part.rows();
    for (uint64_t r = 0; r < rows; ++r) {
      if (e2m1) {
        scales_.push_back(nvfp4_multiplier(form_.spec.order, views_[i].global));
        continue;
      }
      const uint64_t at = form_.spec.scale == Scale::tensor ? 0 : r * columns;
      for (uint64_t c = 0; c < columns; ++c) {
        scales_.push_back(value_at(scale, views_[i].scales, at + c));
      }
    }
  }
}

void Bound::set_key() {
  std::string text = kernel_name(form_) + " " + std::to_string(form_.k) + " " +
                     std::to_string(product_group(form_)) + " " +
                     (int8_ ? int8_->path() : coded_->path());
  const auto add = [&](float value) {
    text += " " + std::to_string(std::bit_cast<uint32_t>(value));
  };
  for (const float value : input_scales_) add(value);
  for (const float value : input_offsets_) add(value);
  for (const float value : views_[0].pre) add(value);
  digest(text, key_);
}

uint64_t Bound::workspace_nbytes(uint64_t m) const {
  const uint64_t product = int8_ ? int8_->workspace_nbytes(m) : coded_->workspace_nbytes(m);
  return round_up(std::max(product, kMaxTasks * form_.k * sizeof(float)), 64);
}

uint64_t Bound::activation_nbytes(uint64_t m) const {
  return int8_ ? int8_->activation_nbytes(m) : coded_->activation_nbytes(m);
}

void Bound::sizes(uint64_t m, ls_sizes& out) const {
  if (form_.weight_only()) {
    out.workspace_nbytes = round_up(weights_.workspace_nbytes(m), 64);
    if (form_.has(kPre)) out.workspace_nbytes += m * form_.k * sizeof(float);
    return;
  }
  out.workspace_nbytes = workspace_nbytes(m);
  if (form_.groups > 1) {
    out.workspace_nbytes += activation_nbytes(m);
    return;
  }
  out.activation_nbytes = activation_nbytes(m);
  out.key_nbytes = sizeof key_;
  std::copy(std::begin(key_), std::end(key_), out.key);
}

void Bound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only() || form_.groups > 1) return;
  quantize(call, 0, call.activation);
}

/// x·pre_scale in x's dtype (the factor is cast to it first), in `room`; x itself without one.
const float* Bound::smooth(const ls_apply& call, uint32_t group, const float* x,
                           float* room) const {
  const std::vector<float>& pre = views_[first_part_[group]].pre;
  if (pre.empty()) return x;
  for (uint64_t i = 0; i < form_.k; ++i) room[i] = smoothed(call.x_dtype, x[i], pre[i]);
  return room;
}

void Bound::quantize(const ls_apply& call, uint32_t group, void* activation) const {
  if (int8_) {
    return int8_->prepare(
        call,
        [&](const float* x, int8_t* codes) {
          thread_local std::vector<float> room;  // int8's product lends no room for a row
          if (form_.has(kPre)) room.resize(form_.k);
          return quantize_int8(group, smooth(call, group, x, room.data()), codes);
        },
        activation);
  }
  coded_->prepare(
      call,
      [&](uint64_t, const float* x, float* room, float* values, float* scales) {
        quantize_row(group, smooth(call, group, x, room), values, scales);
      },
      activation);
}

float Bound::quantize_int8(uint32_t group, const float* x, int8_t* codes) const {
  if (form_.spec.input == Input::int8_token) return int8_quantize_row(x, codes, form_.k);
  if (form_.spec.input == Input::int4_token) return int4_quantize_row(x, codes, form_.k);
  float scale = input_scales_[group];
  if (form_.spec.input == Input::int8_affine) {
    int8_quantize_affine(x, input_factors_[group], input_offsets_[group], codes, form_.k);
    scale = 1.0f;  // the weight's scales hold it
  } else {
    int8_quantize_fixed(x, scale, 0.0f, codes, form_.k);
  }
  return is_finite(max_magnitude(x, form_.k)) ? scale : std::numeric_limits<float>::quiet_NaN();
}

void Bound::quantize_row(uint32_t group, const float* x, float* values, float* scales) const {
  switch (form_.spec.input) {
    case Input::fp8_group:
      return fp8_groups(x, form_.scale_width, values, scales, form_.k);
    case Input::nvfp4:
      scales[0] = 1.0f / input_factors_[group];
      return nvfp4_token_values(x, input_factors_[group], values, form_.k);
    case Input::int8_token:
    case Input::int4_token:
    case Input::int8_fixed: {
      thread_local std::vector<int8_t> codes;
      codes.resize(form_.k);
      scales[0] = quantize_int8(group, x, codes.data());
      int8_dequantize(codes.data(), 1.0f, values, form_.k);
      break;
    }
    case Input::fp8_fixed:
      scales[0] = fp8_fixed_row(x, input_scales_[group], values, form_.k);
      break;
    default:
      scales[0] = fp8_token(x, nullptr, values, form_.k);
  }
  const uint64_t width = product_group(form_);
  const uint64_t count = width == 0 ? 1 : ceil_div(form_.k, width);
  std::fill(scales + 1, scales + count, scales[0]);
}

void Bound::decode(uint64_t row, uint16_t* out) const {
  const uint8_t* codes = codes_ + row / form_.rows_a_row() * form_.row_nbytes();
  switch (form_.spec.codes) {
    case Codes::e4m3:
      return e4m3_decode_bf16(codes, out, form_.k);
    case Codes::e2m1: {
      const size_t part = part_of_row(form_.parts, row);
      const auto* scales = reinterpret_cast<const uint8_t*>(views_[part].scales);
      return nvfp4_decode_bf16(codes,
                               scales + (row - form_.parts[part].row_begin) * form_.scale_columns,
                               out, form_.k, form_.scale_width);
    }
    case Codes::int8:
    case Codes::int4:
    case Codes::words:
      return decode_levels(row, codes, out);
  }
}

/// Levels of at most 9 bits: exact in bf16.
void Bound::decode_levels(uint64_t row, const uint8_t* codes, uint16_t* out) const {
  const size_t part = part_of_row(form_.parts, row);
  float levels[256];
  for (uint64_t at = 0; at < form_.k; at += std::size(levels)) {
    const uint64_t count = std::min<uint64_t>(std::size(levels), form_.k - at);
    level_row(form_, views_[part], row - form_.parts[part].row_begin, codes, at, count, levels);
    bf16_encode(levels, out + at, count);
  }
}

/// Columns [begin, begin+count) of an e2m1 row in groups of 16 or 32, without the row's own scale.
float Bound::dot_nvfp4(uint64_t row, uint64_t begin, uint64_t count, const float* x) const {
  constexpr uint64_t kGroups = 128;  // at a time
  const uint64_t width = form_.scale_width;
  const size_t part = part_of_row(form_.parts, row);
  const uint8_t* packed = codes_ + row * form_.row_nbytes();
  const auto* scales = reinterpret_cast<const uint8_t*>(views_[part].scales) +
                       (row - form_.parts[part].row_begin) * form_.scale_columns;
  float sum = 0;
  for (uint64_t at = 0; at < count; at += kGroups * width) {
    float values[kGroups];
    const uint64_t here = std::min(count - at, kGroups * width);
    e4m3_decode(scales + (begin + at) / width, values, ceil_div(here, width));
    sum += dot_e2m1(packed + (begin + at) / 2, values, width, x + at, here);
  }
  return sum;
}

void Bound::multiply(const ls_apply& call, uint32_t group, const void* activation) const {
  const uint64_t first = group * form_.n;
  if (int8_) {
    Int8Weight weight;
    weight.scales = scales_.data() + first;
    if (constants_ != nullptr) weight.constants = constants_ + first;
    weight.codes = reinterpret_cast<const int8_t*>(codes_) + first * form_.k;
    if (form_.spec.codes == Codes::int4) {
      weight.decode = [=, this](uint64_t row, uint64_t begin, uint64_t count, int8_t* out) {
        int4_decode(codes_ + (first + row) / 2 * form_.k + begin, first + row, out, count);
      };
    }
    return int8_->apply(call, weight, activation);
  }
  const uint64_t columns = product_group(form_) == 0 ? 1 : form_.scale_columns;
  CodedWeight weight{[=, this](uint64_t row, uint16_t* out) { decode(first + row, out); },
                     [=, this](uint64_t row) -> const float* {
                       if (form_.spec.scale != Scale::block)
                         return &scales_[(first + row) * columns];
                       const PartForm& part = form_.parts[part_of_row(form_.parts, first + row)];
                       const uint64_t block =
                           (first + row - part.row_begin) / form_.spec.block_rows;
                       return &scales_[(part.block_begin + block) * columns];
                     }};
  if (form_.spec.codes == Codes::e2m1) {
    weight.dot = [=, this](uint64_t row, uint64_t begin, uint64_t count, const float* x) {
      return dot_nvfp4(first + row, begin, count, x);
    };
  }
  coded_->apply(call, weight, 0, form_.n, activation);
}

void Bound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  if (form_.weight_only()) return apply_weights(call);
  if (form_.groups == 1) return multiply(call, 0, call.activation);
  char* activation = static_cast<char*>(call.workspace) + workspace_nbytes(call.m);
  for_groups(call, form_.groups, [&](uint32_t group, const ls_apply& one) {
    quantize(one, group, activation);
    multiply(one, group, activation);
  });
}

void Bound::apply_weights(const ls_apply& call) const {
  ls_apply own = call;
  if (form_.has(kPre) && call.x_dtype != LS_DTYPE_I64) {
    char* room =
        static_cast<char*>(call.workspace) + round_up(weights_.workspace_nbytes(call.m), 64);
    smooth_all(call, room);
    own.x = room;
    own.x_stride = form_.k;
  }
  weights_.apply(own);
}

WeightOnlyProduct Bound::weights_of(const sdk::Layer& layer) const {
  return WeightOnlyProduct(
      layer, form_.k, kFewRows,
      [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
        for (uint64_t r = 0; r < count; ++r) {
          const uint64_t row = group * form_.n + begin + r;
          const size_t part = part_of_row(form_.parts, row);
          dequantize_row(form_, views_[part], row - form_.parts[part].row_begin,
                         codes_ + row / form_.rows_a_row() * form_.row_nbytes(), out + r * form_.k);
        }
      },
      [this](uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y) {
        multiply_rows(begin, count, x, m, y);
      });
}

/// A few rows of x with weights: four-bit codes as they are, others decoded row by row.
void Bound::multiply_rows(uint64_t begin, uint64_t count, const float* x, uint64_t m,
                          float* y) const {
  thread_local std::vector<float> room;
  room.resize(std::max(form_.k, 2 * form_.scale_columns));
  const bool nibbles = cpu_in_use() == Cpu::avx512 && form_.spec.codes == Codes::words &&
                       form_.spec.bits == 4 && !form_.has(kOrder) &&
                       (form_.scale_width % 32 == 0 || form_.scale_columns == 1);
  float* zeros = room.data() + form_.scale_columns;
  for (uint64_t row = begin; row < begin + count; ++row) {
    const size_t part = part_of_row(form_.parts, row);
    const uint64_t own = row - form_.parts[part].row_begin;
    const uint8_t* codes = codes_ + row / form_.rows_a_row() * form_.row_nbytes();
    if (nibbles) {
      scales_of_row(form_, views_[part], own, room.data(), zeros);
    } else if (form_.spec.codes != Codes::e2m1) {
      dequantize_row(form_, views_[part], own, codes, room.data());
    }
    for (uint64_t i = 0; i < m; ++i) {
      const float* at = x + i * form_.k;
      float& to = y[i * form_.n + row];
      if (nibbles) {
        to = dot_nibbles(codes, room.data(), zeros, form_.scale_width, at, form_.k);
      } else if (form_.spec.codes == Codes::e2m1) {
        const float multiplier = nvfp4_multiplier(form_.spec.order, views_[part].global);
        to = multiplier * dot_nvfp4(row, 0, form_.k, at);
      } else {
        to = dot_f32(room.data(), at, form_.k);
      }
    }
  }
}

/// All rows of x times their group's pre_scale, dense, in x's dtype.
void Bound::smooth_all(const ls_apply& call, char* out) const {
  const uint64_t item = float_nbytes(call.x_dtype);
  sdk::parallel_for(call.m, [&](uint64_t row) {
    uint32_t group = 0;
    while (call.group_end != nullptr && row >= call.group_end[group]) ++group;
    const auto* x = static_cast<const char*>(call.x) + row * call.x_stride * item;
    const std::vector<float>& pre = views_[first_part_[group]].pre;
    for (uint64_t i = 0; i < form_.k; ++i) {
      float value = 0;
      widen(call.x_dtype, x + i * item, &value, 1);
      value = smoothed(call.x_dtype, value, pre[i]);
      narrow(call.x_dtype, &value, out + (row * form_.k + i) * item, 1);
    }
  });
}

}  // namespace loadstone::common::scaled
