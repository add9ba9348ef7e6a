#include "common/scaled/device.hpp"

#include <algorithm>

#include "common/cuda/target.hpp"
#include "common/digest.hpp"

namespace loadstone::common::scaled {
namespace {

constexpr uint32_t kFp8Units = 89;  // the first sm with them

bool is_fp8(Input input) { return input >= Input::fp8_token && input <= Input::fp8_group; }

cuda::ScaleMap map_of(const Form& form) {
  const bool blocks = form.spec.scale == Scale::block;
  if (!blocks && form.spec.scale != Scale::tensor) return cuda::ScaleMap::rows(form.n);
  cuda::ScaleMap out;
  out.height =
      blocks ? static_cast<uint32_t>(form.spec.block_rows) : uint32_t{cuda::ScaleMap::kWhole};
  for (size_t i = 0; i < form.parts.size(); ++i) {
    const PartForm& part = form.parts[i];
    cuda::ScaleRun& run = out.runs[out.count++];
    run.begin = static_cast<uint32_t>(part.row_begin);
    run.end = static_cast<uint32_t>(part.row_begin + part.rows());
    run.first = static_cast<int32_t>(blocks ? part.block_begin : i);
  }
  std::sort(out.runs, out.runs + out.count,
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return out;
}

/// A stored tensor, or null where the form has none or nothing is stored yet.
template <typename T>
const T* stored_of(const Form& form, Which which, const sdk::Binding* binding) {
  if (binding == nullptr || !form.has(which)) return nullptr;
  return static_cast<const T*>(binding->stored.raw(form.stored_index(which)).at);
}

cuda::ScaleKind kind_of(uint32_t dtype) {
  switch (dtype) {
    case LS_DTYPE_I64:
      return cuda::ScaleKind::f32_in_i64;
    case LS_DTYPE_BF16:
      return cuda::ScaleKind::bf16;
    case LS_DTYPE_F16:
      return cuda::ScaleKind::f16;
    default:
      return cuda::ScaleKind::f32;
  }
}

cuda::CodedMatrix matrix_of(const Form& form, const sdk::Binding* binding) {
  cuda::CodedMatrix out;
  out.kind = form.spec.codes == Codes::int8 ? cuda::CodeKind::int8 : cuda::CodeKind::e4m3;
  out.scale_kind = kind_of(form.tensor(0, kScale).dtype);
  if (binding != nullptr) out.codes = static_cast<const uint8_t*>(binding->stored.raw(0).at);
  out.scales = stored_of<void>(form, kScale, binding);
  out.constants = stored_of<int32_t>(form, kConstant, binding);
  out.n = form.n;
  out.k = form.k;
  out.scale_columns = form.scale_columns;
  out.scale_width = form.scale_width;
  out.map = map_of(form);
  return out;
}

uint64_t group_of(const Form& form) {
  return form.spec.input == Input::fp8_group ? form.spec.block_columns : 0;
}

const char* unit_of(const Form& form, const sdk::Target& target) {
  const cuda::CodedMatrix matrix = matrix_of(form, nullptr);
  if (form.weight_only()) return "cublaslt";
  return cuda::CodedLayer(matrix, group_of(form)).unit(target.sm);
}

cuda::RowRule rule_of(Input input) {
  switch (input) {
    case Input::fp8_fixed:
      return cuda::RowRule::fp8_fixed;
    case Input::int8_token:
      return cuda::RowRule::int8_row;
    case Input::int8_fixed:
      return cuda::RowRule::int8_fixed;
    case Input::int8_affine:
      return cuda::RowRule::int8_affine;
    case Input::int4_token:
      return cuda::RowRule::int4_row;
    default:
      return cuda::RowRule::fp8_row;
  }
}

}  // namespace

bool fit_device(const sdk::Target& target, Form& form, NoForm& instead) {
  if (form.decodes) return true;  // plain floats, made in host memory
  const std::string& method = form.spec.method;
  if (!cuda::takes(method, target, form.groups, instead)) return false;
  const bool fp8 = is_fp8(form.spec.input) && !by_levels(form);
  if (fp8 && target.sm < kFp8Units) form.spec.input = Input::none;
  if (by_levels(form)) {
    const std::string why = why_no_levels(form);
    if (why.empty()) return true;
    return instead.set(LS_VERDICT_UNSUPPORTED, method + ": " + why + " CUDA kernel");
  }
  if (form.parts.size() <= static_cast<size_t>(cuda::ScaleMap::kMaxRuns)) return true;
  return instead.set(LS_VERDICT_UNSUPPORTED,
                     method + ": found " + std::to_string(form.parts.size()) +
                         " parts, expected at most " + std::to_string(cuda::ScaleMap::kMaxRuns) +
                         " on CUDA");
}

std::string device_kernel_name(const sdk::Target& target, const Form& form,
                               const sdk::Layer& layer) {
  if (layer.kind() == LS_KIND_GATHER) return kernel_name(form) + "_lookup";
  if (by_levels(form) && !form.weight_only()) {
    return kernel_name(form) + (levels_group(form) == 0 ? "_cublaslt_bf16" : "_mma_bf16");
  }
  return kernel_name(form) + "_" + unit_of(form, target);
}

std::string device_reason(const sdk::Target& target, const Form& asked, const Form& form) {
  if (form.weight_only() && !asked.weight_only()) {
    return "sm" + std::to_string(target.sm) + " has no fp8 units: weights only";
  }
  if (form.weight_only()) return "";
  if (by_levels(form)) return "no tensor core takes these codes: both sides are multiplied as bf16";
  return std::string_view(unit_of(form, target)) == "simt" ? cuda::simt_reason(form.n, form.k) : "";
}

DeviceBound::DeviceBound(Form form, const sdk::Binding& binding)
    : form_(std::move(form)),
      gathers_(binding.layer.kind() == LS_KIND_GATHER),
      device_(cuda::device_of(binding.stored.raw(0).at)),
      input_scale_(factor_of(kInput, 1, binding)),
      input_offset_(factor_of(kInputOffset, 1, binding)),
      mul_(factor_of(kPre, form_.k, binding)),
      coded_(matrix_of(form_, &binding), group_of(form_)),
      decoded_(matrix_of(form_, &binding)) {
  if (by_levels(form_)) levels_ = levels_of(form_, binding);
  if (!form_.weight_only()) set_key();
}

void DeviceBound::set_key() {
  std::string text = (levels_ ? "cuda levels " : "cuda ") + kernel_name(form_) + " " +
                     std::to_string(form_.k) + " " + std::to_string(group_of(form_));
  if (levels_) text += " order " + std::to_string(static_cast<int>(form_.spec.order));
  for (const Factor* factor : {&input_scale_, &input_offset_, &mul_}) {
    if (factor->at == nullptr) continue;
    const bool half = factor->kind != cuda::ScaleKind::f32;
    std::string bytes(factor->count * (half ? 2 : 4), '\0');
    cuda::check(cudaMemcpy(bytes.data(), factor->at, bytes.size(), cudaMemcpyDeviceToHost),
                "reading input scales");
    text += (half ? " half " : " ") + bytes;
  }
  digest(text, key_);
}

DeviceBound::Factor DeviceBound::factor_of(Which which, uint64_t count,
                                           const sdk::Binding& binding) const {
  if (!form_.has(which)) return {};
  return {kind_of(form_.tensor(0, which).dtype), stored_of<void>(form_, which, &binding), count};
}

/// The factor as float32: where it is, or in `room`.
const float* DeviceBound::widened(const Factor& factor, float* room, const ls_apply& call) const {
  if (factor.at == nullptr || factor.kind == cuda::ScaleKind::f32) {
    return static_cast<const float*>(factor.at);
  }
  cuda::CodedMatrix values;
  values.scale_kind = factor.kind;
  values.scales = factor.at;
  values.n = factor.count;
  values.map = cuda::ScaleMap::rows(factor.count);
  cuda::check(cuda::expand_scales(values, 1, room, cuda::stream_of(call)), "widening scales");
  return room;
}

DeviceBound::Quantized DeviceBound::cut(cuda::Cutter& cutter, uint64_t m) const {
  Quantized out{};
  out.codes = cutter.take<uint8_t>(m * form_.k);
  const uint64_t groups = group_of(form_) == 0 ? 1 : form_.scale_columns;
  out.scales = cutter.take<float>(m * groups);
  out.input_scale = cutter.take<float>(input_scale_.count);
  out.input_offset = cutter.take<float>(input_offset_.count);
  out.mul = cutter.take<float>(mul_.count);
  out.values = levels_ ? cutter.take<uint16_t>(m * form_.k) : nullptr;
  return out;
}

void DeviceBound::sizes(uint64_t m, ls_sizes& out) const {
  if (form_.weight_only()) {
    if (gathers_) return;
    out.workspace_nbytes = levels_ ? levels_workspace_nbytes(m) : decoded_.workspace_nbytes(m);
    return;
  }
  cuda::Cutter cutter(nullptr);
  cut(cutter, m);
  out.activation_nbytes = cutter.used();
  out.workspace_nbytes = levels_ ? levels_workspace_nbytes(m) : coded_.workspace_nbytes(m);
  out.key_nbytes = sizeof key_;
  std::copy(std::begin(key_), std::end(key_), out.key);
}

cuda::RowsCall DeviceBound::rows_of(const ls_apply& call, const Quantized& to) const {
  cuda::RowsCall out{
      call.x_dtype,         call.x,   call.m,    form_.k,
      call.x_stride,        to.codes, to.scales, widened(input_scale_, to.input_scale, call),
      cuda::stream_of(call)};
  out.offset = widened(input_offset_, to.input_offset, call);
  out.mul = widened(mul_, to.mul, call);
  return out;
}

void DeviceBound::quantize(const cuda::RowsCall& rows) const {
  const cudaError_t status = form_.spec.input == Input::fp8_group
                                 ? cuda::quantize_groups(rows, form_.spec.block_columns)
                                 : cuda::quantize_rows(rule_of(form_.spec.input), rows);
  cuda::check(status, "quantizing activations");
}

void DeviceBound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only()) return;
  const cuda::OnDevice guard(device_);
  cuda::Cutter cutter(call.activation);
  const Quantized to = cut(cutter, call.m);
  levels_ ? prepare_levels(call, to) : quantize(rows_of(call, to));
}

void DeviceBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  if (levels_) return apply_levels(call);
  if (form_.weight_only()) return gathers_ ? decoded_.gather(call) : decoded_.run(call);
  cuda::Cutter cutter(call.activation);
  const Quantized from = cut(cutter, call.m);
  const cuda::CodedSegment all{0, form_.n, from.codes, from.scales};
  coded_.run(call, &all, 1);
}

}  // namespace loadstone::common::scaled
