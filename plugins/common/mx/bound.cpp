#include "common/mx/bound.hpp"

#include <algorithm>
#include <bit>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/codecs/half.hpp"
#include "common/digest.hpp"
#include "common/numerics/dual.hpp"
#include "common/numerics/floats.hpp"
#include "common/product/few.hpp"
#include "common/product/rows.hpp"

namespace loadstone::common::mx {
namespace {

enum Cast { kF32, kBf16, kF16 };

Cast cast_of(uint32_t dtype) {
  if (dtype == LS_DTYPE_BF16) return kBf16;
  return dtype == LS_DTYPE_F16 ? kF16 : kF32;
}

float cast(float value, Cast to) {
  if (to == kBf16) return bf16_decode(bf16_encode(value));
  return to == kF16 ? f16_decode(f16_encode(value)) : value;
}

}  // namespace

Bound::Bound(const Config& config, const sdk::Binding& binding)
    : config_(config),
      form_(form_of(config, binding.layer)),
      stored_(form_, binding.stored),
      product_({form_.n, form_.k, form_.dual ? kDualGroup : 0}),
      weights_(weights_of(binding.layer)) {
  for (uint64_t row = 0; row < form_.rows() && !form_.dual; ++row) {
    tops_.push_back(mx_top(stored_.scales + row * form_.scale_columns(), form_.scale_columns()));
    row_scales_.push_back(e8m0_decode(tops_.back()));
  }
  for (const Cast to : {kF32, kBf16, kF16}) {
    for (uint64_t i = 0; form_.has_mul && i < form_.groups * form_.k; ++i) {
      mul_[to].push_back(cast(stored_.mul[i], to));
    }
  }
  set_keys();
}

void Bound::set_keys() {
  for (uint32_t variant = 0; variant < 2; ++variant) {
    const MxElement element = variant == 1 ? MxElement::e4m3 : form_.element;
    const MxRule rule = variant == 1 ? MxRule::ocp : config_.rule;
    std::string text = form_.dual ? "mx dual " : "mx ";
    for (const uint64_t number :
         {uint64_t(element == MxElement::e4m3), static_cast<uint64_t>(rule), form_.k}) {
      text += std::to_string(number) + " ";
    }
    text += product_.path();
    for (const float value : mul_[kF32]) {
      text += " " + std::to_string(std::bit_cast<uint32_t>(value));
    }
    digest(text, keys_[variant]);
  }
}

uint32_t variant_of(const Config& config, const Form& form, const ls_step& step) {
  if (form.element == MxElement::e4m3 || form.weight_only) return 0;
  if (form.w4a8) return 1;
  if (config.w4a8_steps.empty()) return 0;
  if (step.count == 0) {
    sdk::fail(LS_INVALID_ARGUMENT,
              "w4a8_fallback_steps needs the denoising step, and this run has none");
  }
  const bool listed = std::binary_search(config.w4a8_steps.begin(), config.w4a8_steps.end(),
                                         static_cast<int64_t>(step.index));
  return listed ? 1 : 0;
}

void Bound::sizes(uint32_t variant, uint64_t m, ls_sizes& out) const {
  if (form_.weight_only) {
    out.workspace_nbytes = weights_.workspace_nbytes(m);
    return;
  }
  out.workspace_nbytes = round_up(product_.workspace_nbytes(m), 64);
  if (form_.groups > 1) {
    out.workspace_nbytes += product_.activation_nbytes(m);
    return;
  }
  out.activation_nbytes = product_.activation_nbytes(m);
  out.key_nbytes = sizeof out.key;
  std::copy(std::begin(keys_[variant & 1]), std::end(keys_[variant & 1]), out.key);
}

void Bound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only || form_.groups > 1) return;
  quantize(call, 0, call.activation);
}

/// x·mul_scale in x's dtype (dual scale: in bf16), into `out`; and what dual scale casts first.
void Bound::smooth(const ls_apply& call, uint32_t group, const float* x, float* out) const {
  const Cast own = cast_of(call.x_dtype);
  const bool to_bf16 = form_.dual && (form_.has_mul || own == kF32);
  const Cast to = to_bf16 ? kBf16 : own;
  for (uint64_t i = 0; i < form_.k; ++i) {
    const float value = form_.dual ? cast(x[i], to) : x[i];
    out[i] = form_.has_mul ? cast(value * mul_[to][group * form_.k + i], to) : value;
  }
}

void Bound::quantize(const ls_apply& call, uint32_t group, void* activation) const {
  const bool w4a8 = (call.variant & 1) != 0;
  const MxElement element = w4a8 ? MxElement::e4m3 : form_.element;
  const MxRule rule = w4a8 ? MxRule::ocp : config_.rule;
  const bool f16 = call.x_dtype == LS_DTYPE_F16 && !form_.has_mul;
  product_.prepare(
      call,
      [&](uint64_t, const float* x, float* room, float* values, float* scales) {
        const float* from = x;
        if (form_.has_mul || form_.dual) {
          smooth(call, group, x, room);
          from = room;
        }
        if (form_.dual) {
          dual_round(f16 ? DualDtype::f16 : DualDtype::bf16, from, values, scales, form_.k);
        } else {
          scales[0] = mx_round(rule, element, from, values, form_.k);
        }
      },
      activation);
}

void Bound::decode(uint64_t row, uint16_t* out) const {
  const uint8_t* packed = stored_.codes + row * form_.row_nbytes();
  const uint8_t* scales = stored_.scales + row * form_.scale_columns();
  const uint8_t top = form_.dual ? 127 : tops_[row];
  if (form_.element == MxElement::e4m3) {
    return mx_decode_bf16(form_.element, packed, scales, top, out, form_.k);
  }
  uint8_t codes[kDualGroup];
  for (uint64_t begin = 0; begin < form_.k; begin += kDualGroup) {
    const uint64_t n = std::min<uint64_t>(kDualGroup, form_.k - begin);
    e2m1_unpack(packed + begin / 2, codes, n);
    mx_decode_bf16(form_.element, codes, scales + begin / kMxGroup, top, out + begin, n);
  }
}

/// Whether few rows of x read codes as they are, each anew: four bits, or one row.
bool Bound::reads_codes(uint64_t m) const { return form_.element == MxElement::e2m1 || m == 1; }

/// Columns [begin, begin+count) of a row, without the row's own scale.
float Bound::dot(uint64_t row, uint64_t begin, uint64_t count, const float* x) const {
  constexpr uint64_t kGroups = 128;  // at a time
  const uint8_t* codes = stored_.codes + row * form_.row_nbytes();
  const uint8_t* scales = stored_.scales + row * form_.scale_columns();
  float sum = 0;
  for (uint64_t at = 0; at < count; at += kGroups * kMxGroup) {
    float relative[kGroups];
    const uint64_t here = std::min(count - at, kGroups * kMxGroup);
    mx_relative_scales(scales + (begin + at) / kMxGroup, form_.dual ? 127 : tops_[row], relative,
                       mx_groups(here));
    if (form_.element == MxElement::e2m1) {
      sum += dot_e2m1(codes + (begin + at) / 2, relative, kMxGroup, x + at, here);
      continue;
    }
    uint16_t values[kGroups * kMxGroup];
    e4m3_decode_bf16(codes + begin + at, values, here);
    sum += dot_bf16_groups(values, relative, x + at, here);
  }
  return sum;
}

void Bound::multiply(const ls_apply& call, uint32_t group, const void* activation) const {
  const uint64_t first = group * form_.n;
  CodedWeight weight{[=, this](uint64_t row, uint16_t* out) { decode(first + row, out); },
                     [=, this](uint64_t row) -> const float* {
                       if (!form_.dual) return &row_scales_[first + row];
                       return stored_.outer + (first + row) * form_.outer_columns();
                     }};
  if (reads_codes(call.m)) {
    weight.dot = [=, this](uint64_t row, uint64_t begin, uint64_t count, const float* x) {
      return dot(first + row, begin, count, x);
    };
  }
  product_.apply(call, weight, 0, form_.n, activation);
}

void Bound::decode_row(uint64_t row, float* out) const {
  const float* outer = form_.dual ? stored_.outer + row * form_.outer_columns() : nullptr;
  dequantize_row(form_, stored_.codes + row * form_.row_nbytes(),
                 stored_.scales + row * form_.scale_columns(), outer, out);
}

WeightOnlyProduct Bound::weights_of(const sdk::Layer& layer) const {
  return WeightOnlyProduct(
      layer, form_.k, kFewRows,
      [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
        for (uint64_t r = 0; r < count; ++r) {
          decode_row(group * form_.n + begin + r, out + r * form_.k);
        }
      },
      [this](uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y) {
        multiply_rows(begin, count, x, m, y);
      });
}

/// A few rows of x with weights: codes as they are, or decoded row by row.
void Bound::multiply_rows(uint64_t begin, uint64_t count, const float* x, uint64_t m,
                          float* y) const {
  thread_local std::vector<float> room;
  room.resize(form_.k);
  const bool codes = !form_.dual && reads_codes(m);
  for (uint64_t row = begin; row < begin + count; ++row) {
    if (!codes) decode_row(row, room.data());
    for (uint64_t i = 0; i < m; ++i) {
      const float* at = x + i * form_.k;
      y[i * form_.n + row] =
          codes ? row_scales_[row] * dot(row, 0, form_.k, at) : dot_f32(room.data(), at, form_.k);
    }
  }
}

void Bound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  if (form_.weight_only) return weights_.apply(call);
  if (form_.groups == 1) return multiply(call, 0, call.activation);
  const uint64_t workspace = round_up(product_.workspace_nbytes(call.m), 64);
  char* activation = static_cast<char*>(call.workspace) + workspace;
  for_groups(call, form_.groups, [&](uint32_t group, const ls_apply& one) {
    quantize(one, group, activation);
    multiply(one, group, activation);
  });
}

}  // namespace loadstone::common::mx
