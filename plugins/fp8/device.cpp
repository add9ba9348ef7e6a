#include "fp8/device.hpp"

#include <algorithm>
#include <bit>

#include "common/cuda/quantize.hpp"
#include "common/cuda/target.hpp"
#include "common/digest.hpp"
#include "fp8/bound.hpp"

namespace loadstone::fp8 {
namespace {

namespace cuda = common::cuda;

constexpr uint32_t kFp8Units = 89;  // the first sm with them

cuda::ScaleMap map_of(const Form& form) {
  if (form.granularity == Granularity::channel) return cuda::ScaleMap::rows(form.n);
  cuda::ScaleMap out;
  const bool blocks = form.granularity == Granularity::block;
  out.height = blocks ? static_cast<uint32_t>(form.block_rows) : uint32_t{cuda::ScaleMap::kWhole};
  for (size_t i = 0; i < form.parts.size(); ++i) {
    const PartForm& part = form.parts[i];
    cuda::ScaleRun& run = out.runs[out.count++];
    run.begin = static_cast<uint32_t>(part.row_begin);
    run.end = static_cast<uint32_t>(part.row_begin + part.rows());
    run.first = static_cast<int32_t>(i);
    if (!blocks) continue;
    run.phase = static_cast<uint32_t>(part.part.file_begin - part.grid_origin);
    run.first = static_cast<int32_t>(part.block_begin) - static_cast<int32_t>(part.block_first);
  }
  std::sort(out.runs, out.runs + out.count,
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return out;
}

cuda::CodedMatrix matrix_of(const Form& form, const void* codes, const void* scales) {
  cuda::CodedMatrix out;
  out.kind = form.code_dtype == LS_DTYPE_F8_E5M2 ? cuda::CodeKind::e5m2 : cuda::CodeKind::e4m3;
  out.codes = static_cast<const uint8_t*>(codes);
  out.scales = scales;
  out.n = form.n;
  out.k = form.k;
  const bool blocks = form.granularity == Granularity::block;
  out.scale_columns = blocks ? form.scale_columns : 1;
  out.scale_width = blocks ? form.block_columns : form.k;
  out.map = map_of(form);
  return out;
}

uint64_t group_of(const Form& form) {
  return form.granularity == Granularity::block ? form.block_columns : 0;
}

cuda::RowRule rule_of(const Form& form) {
  return form.activation == Activation::token    ? cuda::RowRule::fp8_row
         : form.activation == Activation::tensor ? cuda::RowRule::fp8_tensor
                                                 : cuda::RowRule::fp8_fixed;
}

/// What runs, with no tensors yet.
const char* unit_of(const Form& form, uint32_t sm) {
  const cuda::CodedMatrix matrix = matrix_of(form, nullptr, nullptr);
  if (!form.weight_only.empty()) return "cublaslt";
  return cuda::CodedLayer(matrix, group_of(form)).unit(sm);
}

Form device_form(const Config& config, const sdk::Binding& binding) {
  Form form = form_of(config, binding.layer);
  common::NoForm instead;
  if (!fit_device(binding.target, form, instead)) sdk::fail(LS_UNSUPPORTED, instead.reason);
  return form;
}

cuda::CodedMatrix bound_matrix(const Form& form, const sdk::Binding& binding) {
  return matrix_of(form, binding.stored.raw(0).at, binding.stored.raw(1).at);
}

}  // namespace

bool fit_device(const sdk::Target& target, Form& form, common::NoForm& instead) {
  if (form.decodes) return true;  // plain floats, made in host memory
  if (!cuda::takes("fp8", target, form.groups, instead)) return false;
  if (form.parts.size() > static_cast<size_t>(cuda::ScaleMap::kMaxRuns)) {
    return instead.set(LS_VERDICT_UNSUPPORTED, "fp8: found " + std::to_string(form.parts.size()) +
                                                   " parts, expected at most " +
                                                   std::to_string(cuda::ScaleMap::kMaxRuns) +
                                                   " on CUDA");
  }
  if (form.weight_only.empty() && target.sm < kFp8Units) {
    form.weight_only = "sm" + std::to_string(target.sm) + " has no fp8 units: weights only";
  }
  return true;
}

std::string device_kernel_name(const Form& form, uint32_t sm) {
  return kernel_name(form) + "_" + unit_of(form, sm);
}

std::string device_reason(const Form& form) {
  if (!form.weight_only.empty()) return form.weight_only;
  const bool simt = std::string_view(unit_of(form, 0)) == "simt";
  return simt ? cuda::simt_reason(form.n, form.k) : "";
}

DeviceBound::DeviceBound(const Config& config, const sdk::Binding& binding)
    : form_(device_form(config, binding)),
      gathers_(binding.layer.kind() == LS_KIND_GATHER),
      device_(cuda::device_of(binding.stored.raw(0).at)),
      coded_(bound_matrix(form_, binding), group_of(form_)),
      decoded_(bound_matrix(form_, binding)) {
  if (!weight_only()) find_slots(binding);
}

void DeviceBound::find_slots(const sdk::Binding& binding) {
  std::vector<float> values;  // of fixed scales: the key, and who shares an activation
  if (form_.activation != Activation::fixed) {
    slots_ = {Slot{nullptr, {{0, form_.n}}}};
  } else {
    const auto* scales = static_cast<const float*>(binding.stored.raw(2).at);
    std::vector<float> all(form_.parts.size());
    cuda::check(cudaMemcpy(all.data(), scales, all.size() * sizeof(float), cudaMemcpyDeviceToHost),
                "reading input scales");
    for (size_t i = 0; i < all.size(); ++i) {
      const auto known = std::find(values.begin(), values.end(), all[i]);
      const auto slot = static_cast<size_t>(known - values.begin());
      if (known == values.end()) {
        values.push_back(all[i]);
        slots_.push_back(Slot{scales + i, {}});
      }
      slots_[slot].rows.emplace_back(form_.parts[i].row_begin, form_.parts[i].rows());
    }
  }
  std::string text = "cuda " + kernel_name(form_) + " " + std::to_string(form_.k) + " " +
                     std::to_string(group_of(form_));
  for (const float value : values) text += " " + std::to_string(std::bit_cast<uint32_t>(value));
  common::digest(text, key_);
}

DeviceBound::Quantized DeviceBound::cut(cuda::Cutter& cutter, uint64_t m) const {
  Quantized out{};
  out.codes = cutter.take<uint8_t>(m * form_.k);
  out.scales = cutter.take<float>(m * coded_.groups());
  out.amax = cutter.take<float>(1);
  return out;
}

void DeviceBound::sizes(uint32_t, uint64_t m, ls_sizes& out) const {
  if (weight_only()) {
    if (!gathers_) out.workspace_nbytes = decoded_.workspace_nbytes(m);
    return;
  }
  cuda::Cutter cutter(nullptr);
  for (size_t i = 0; i < slots_.size(); ++i) cut(cutter, m);
  out.activation_nbytes = cutter.used();
  out.workspace_nbytes = coded_.workspace_nbytes(m);
  out.key_nbytes = sizeof key_;
  std::copy(std::begin(key_), std::end(key_), out.key);
}

void DeviceBound::prepare(const ls_apply& call) const {
  if (call.m == 0 || weight_only()) return;
  const cuda::OnDevice guard(device_);
  cuda::Cutter cutter(call.activation);
  for (const Slot& slot : slots_) {
    const Quantized to = cut(cutter, call.m);
    cuda::RowsCall rows{call.x_dtype, call.x,           call.m,
                        form_.k,      call.x_stride,    to.codes,
                        to.scales,    slot.input_scale, cuda::stream_of(call)};
    if (form_.granularity == Granularity::block) {
      cuda::check(cuda::quantize_groups(rows, form_.block_columns), "quantizing activations");
      continue;
    }
    if (form_.activation == Activation::tensor) {
      cuda::check(cuda::tensor_amax(rows, to.amax), "finding the largest activation");
      rows.given = to.amax;
    }
    cuda::check(cuda::quantize_rows(rule_of(form_), rows), "quantizing activations");
  }
}

void DeviceBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  if (weight_only()) return gathers_ ? decoded_.gather(call) : decoded_.run(call);
  cuda::Cutter cutter(call.activation);
  std::vector<cuda::CodedSegment> segments;
  for (const Slot& slot : slots_) {
    const Quantized from = cut(cutter, call.m);
    for (const auto& [begin, count] : slot.rows) {
      segments.push_back({begin, count, from.codes, from.scales});
    }
  }
  coded_.run(call, segments.data(), segments.size());
}

}  // namespace loadstone::fp8
