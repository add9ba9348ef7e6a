#include "fp8/bound.hpp"

#include <algorithm>
#include <bit>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/e5m2.hpp"
#include "common/codecs/half.hpp"
#include "common/digest.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/product/rows.hpp"
#include "fp8/session.hpp"

namespace loadstone::fp8 {
namespace {

const char* name_of(Granularity granularity) {
  return granularity == Granularity::tensor    ? "tensor"
         : granularity == Granularity::channel ? "channel"
                                               : "block";
}

const char* activation_name(const Form& form) {
  if (form.granularity == Granularity::block) return "group";
  return form.activation == Activation::token    ? "token"
         : form.activation == Activation::tensor ? "tensor"
                                                 : "static";
}

common::CodedShape shape_of(const Form& form) {
  const bool blocks = form.granularity == Granularity::block;
  return {form.n, form.k, blocks ? form.block_columns : 0};
}

}  // namespace

std::string kernel_name(const Form& form) {
  const std::string base = std::string("fp8_") + name_of(form.granularity) + "_";
  return base + (form.weight_only.empty() ? activation_name(form) : "weight_only");
}

Bound::Bound(const Config& config, const sdk::Binding& binding)
    : form_(form_of(config, binding.layer)),
      codes_(binding.stored.as<const uint8_t>(0).data()),
      scales_(binding.stored.as<const float>(1).data()),
      product_(shape_of(form_)),
      blockwise_(binding.layer.kind(), form_.groups, form_.n, form_.k) {
  if (weight_only()) return;
  for (uint64_t row = 0; row < form_.rows(); ++row) {
    row_scales_.push_back(form_.row_scales(scales_, row));
  }
  const bool fixed = form_.activation == Activation::fixed;
  find_segments(fixed ? binding.stored.as<const float>(2).data() : nullptr);
  set_key();
}

void Bound::find_segments(const float* input_scales) {
  if (input_scales == nullptr) {
    slots_ = {0.0f};
    for (uint32_t g = 0; g < form_.groups; ++g) segments_.push_back({g, 0, form_.n, 0});
    return;
  }
  for (size_t i = 0; i < form_.parts.size(); ++i) {
    const sdk::Part& part = form_.parts[i].part;
    const auto known = std::find(slots_.begin(), slots_.end(), input_scales[i]);
    const auto slot = static_cast<uint64_t>(known - slots_.begin());
    if (known == slots_.end()) slots_.push_back(input_scales[i]);
    segments_.push_back({part.group, part.out_begin, part.out_count, slot});
  }
}

void Bound::set_key() {
  std::string text = std::string("fp8 e4m3 ") + activation_name(form_) + " " + product_.path();
  for (const uint64_t number : {form_.k, shape_of(form_).group}) {
    text += " " + std::to_string(number);
  }
  for (const float scale : slots_) text += " " + std::to_string(std::bit_cast<uint32_t>(scale));
  common::digest(text, key_);
}

void Bound::sizes(uint32_t, uint64_t m, ls_sizes& out) const {
  if (weight_only()) {
    out.workspace_nbytes = blockwise_.workspace_nbytes(m);
    return;
  }
  const uint64_t activation = slots_.size() * product_.activation_nbytes(m);
  const uint64_t rows = common::kMaxTasks * form_.k * sizeof(float);
  out.workspace_nbytes = common::round_up(std::max(product_.workspace_nbytes(m), rows), 64);
  if (grouped()) {
    out.workspace_nbytes += activation;
    return;
  }
  out.activation_nbytes = activation;
  out.key_nbytes = sizeof key_;
  std::copy(std::begin(key_), std::end(key_), out.key);
}

void Bound::prepare(const ls_apply& call) const {
  if (call.m == 0 || weight_only() || grouped()) return;
  prepare_slots(call, static_cast<char*>(call.activation));
}

void Bound::prepare_slots(const ls_apply& call, char* activation) const {
  for (uint64_t slot = 0; slot < slots_.size(); ++slot) {
    prepare_slot(call, slot, activation + slot * product_.activation_nbytes(call.m));
  }
}

void Bound::prepare_slot(const ls_apply& call, uint64_t slot, void* activation) const {
  const uint64_t k = form_.k;
  if (form_.granularity == Granularity::block) {
    const uint64_t group = form_.block_columns;
    return product_.prepare(
        call,
        [=](uint64_t, const float* x, float*, float* values, float* scales) {
          common::fp8_groups(x, group, values, scales, k);
        },
        activation);
  }
  if (form_.activation == Activation::tensor) {
    const float amax = tensor_amax(call);
    return product_.prepare(
        call,
        [=](uint64_t, const float* x, float*, float* values, float* scales) {
          scales[0] = common::fp8_tensor_row(x, amax, values, k);
        },
        activation);
  }
  const bool fixed = form_.activation == Activation::fixed;
  const float scale = slots_[slot];
  product_.prepare(
      call,
      [=](uint64_t, const float* x, float*, float* values, float* scales) {
        scales[0] = fixed ? common::fp8_fixed_row(x, scale, values, k)
                          : common::fp8_token(x, nullptr, values, k);
      },
      activation);
}

float Bound::tensor_amax(const ls_apply& call) const {
  const uint64_t tasks = std::min(common::kMaxTasks, call.m);
  float tops[common::kMaxTasks] = {};
  sdk::parallel_for(tasks, [&](uint64_t task) {
    float* room = static_cast<float*>(call.workspace) + task * form_.k;
    for (uint64_t i = task; i < call.m; i += tasks) {
      const float here = common::max_magnitude(common::x_row(call, i, form_.k, room), form_.k);
      tops[task] = common::larger_magnitude(tops[task], here);
    }
  });
  float top = 0;
  for (const float here : tops) top = common::larger_magnitude(top, here);
  return top;
}

void Bound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  if (weight_only()) {
    return blockwise_.run(call, [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
      dequantize_rows(form_, codes_, scales_, group * form_.n + begin, count, out);
    });
  }
  if (grouped()) return apply_groups(call);
  apply_segments(call, 0, static_cast<const char*>(call.activation));
}

void Bound::apply_segments(const ls_apply& call, uint32_t group, const char* activation) const {
  const uint64_t first = group * form_.n, k = form_.k;
  const bool e4m3 = form_.code_dtype == LS_DTYPE_F8_E4M3;
  const common::CodedWeight weight{[=, this](uint64_t row, uint16_t* out) {
                                     const uint8_t* codes = codes_ + (first + row) * k;
                                     if (e4m3) return common::e4m3_decode_bf16(codes, out, k);
                                     common::e5m2_decode_bf16(codes, out, k);
                                   },
                                   [=, this](uint64_t row) { return row_scales_[first + row]; }};
  for (const Segment& s : segments_) {
    if (s.group != group) continue;
    product_.apply(call, weight, s.begin, s.count,
                   activation + s.slot * product_.activation_nbytes(call.m));
  }
}

void Bound::apply_groups(const ls_apply& call) const {
  const uint64_t rows = common::kMaxTasks * form_.k * sizeof(float);
  const uint64_t workspace =
      common::round_up(std::max(product_.workspace_nbytes(call.m), rows), 64);
  char* activation = static_cast<char*>(call.workspace) + workspace;
  common::for_groups(call, form_.groups, [&](uint32_t group, const ls_apply& one) {
    prepare_slots(one, activation);
    apply_segments(one, group, activation);
  });
}

}  // namespace loadstone::fp8
