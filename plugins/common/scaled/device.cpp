#include "common/scaled/device.hpp"

#include <algorithm>
#include <bit>

#include "common/cuda/quantize.hpp"
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

cuda::CodedMatrix matrix_of(const Form& form, const sdk::Binding* binding) {
  cuda::CodedMatrix out;
  out.kind = form.spec.codes == Codes::int8 ? cuda::CodeKind::int8 : cuda::CodeKind::e4m3;
  const bool bits = form.tensor(0, kScale).dtype == LS_DTYPE_I64;
  out.scale_kind = bits ? cuda::ScaleKind::f32_in_i64 : cuda::ScaleKind::f32;
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

const char* unit_of(const Form& form) {
  return cuda::CodedLayer(matrix_of(form, nullptr), group_of(form)).unit();
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

/// What no kernel does, or "".
std::string why_unfit(const Form& form) {
  const Spec& spec = form.spec;
  const auto& first = form.parts[0].tensors;
  if (spec.codes != Codes::int8 && spec.codes != Codes::e4m3) return "packed codes have no";
  if (form.has_zeros() || form.has(kOrder)) return "zero points and column orders have no";
  const uint32_t scale = first[kScale]->dtype;
  if (scale != LS_DTYPE_F32 && !(scale == LS_DTYPE_I64 && spec.scale_holds_input)) {
    return "scales of " + dtype_name(scale) + " have no";
  }
  for (const Which which : {kInput, kInputOffset, kPre}) {
    if (first[which] && first[which]->dtype != LS_DTYPE_F32) {
      return "\"" + std::string(spec.names[which]) + "\" of " + dtype_name(first[which]->dtype) +
             " has no";
    }
  }
  if (form.weight_only()) {
    if (form.has(kPre)) return "smoothed weights alone have no";
    return spec.scale_holds_input ? "weights alone of static int8 have no" : "";
  }
  const bool grouped = spec.scale == Scale::group && form.scale_columns > 1;
  if (grouped || (is_integer(spec.input) && spec.scale == Scale::block)) {
    return "grouped scales beside quantized activations have no";
  }
  if (is_integer(spec.input) != (spec.codes == Codes::int8)) {
    return "codes of two kinds have no";
  }
  const bool blocks = spec.scale == Scale::block;
  if (blocks != (spec.input == Input::fp8_group)) return "blocks without groups of columns have no";
  if (blocks && form.has(kPre)) return "smoothed groups of columns have no";
  if (blocks && spec.block_rows != spec.block_columns) return "blocks that aren't square have no";
  return "";
}

}  // namespace

bool fit_device(const sdk::Target& target, Form& form, NoForm& instead) {
  if (form.decodes) return true;  // plain floats, made in host memory
  const std::string& method = form.spec.method;
  if (!cuda::takes(method, target, form.groups, instead)) return false;
  const bool fp8 = is_fp8(form.spec.input);
  if (fp8 && target.sm < kFp8Units && !form.has(kPre)) form.spec.input = Input::none;
  if (const std::string why = why_unfit(form); !why.empty()) {
    return instead.set(LS_VERDICT_UNSUPPORTED, method + ": " + why + " CUDA kernel");
  }
  if (form.parts.size() <= static_cast<size_t>(cuda::ScaleMap::kMaxRuns)) return true;
  return instead.set(LS_VERDICT_UNSUPPORTED,
                     method + ": found " + std::to_string(form.parts.size()) +
                         " parts, expected at most " + std::to_string(cuda::ScaleMap::kMaxRuns) +
                         " on CUDA");
}

std::string device_kernel_name(const Form& form, const sdk::Layer& layer) {
  if (layer.kind() == LS_KIND_GATHER) return kernel_name(form) + "_lookup";
  return kernel_name(form) + "_" + (form.weight_only() ? "cublaslt" : unit_of(form));
}

std::string device_reason(const Form& form) {
  if (form.weight_only()) return "";
  return std::string_view(unit_of(form)) == "simt" ? cuda::simt_reason(form.n, form.k) : "";
}

DeviceBound::DeviceBound(Form form, const sdk::Binding& binding)
    : form_(std::move(form)),
      gathers_(binding.layer.kind() == LS_KIND_GATHER),
      device_(cuda::device_of(binding.stored.raw(0).at)),
      input_scale_(stored_of<float>(form_, kInput, &binding)),
      input_offset_(stored_of<float>(form_, kInputOffset, &binding)),
      mul_(stored_of<float>(form_, kPre, &binding)),
      coded_(matrix_of(form_, &binding), group_of(form_)),
      decoded_(matrix_of(form_, &binding)) {
  if (!form_.weight_only()) set_key();
}

void DeviceBound::set_key() {
  std::string text = "cuda " + kernel_name(form_) + " " + std::to_string(form_.k) + " " +
                     std::to_string(group_of(form_));
  const auto add = [&](const float* from, uint64_t count) {
    std::vector<float> values(from == nullptr ? 0 : count);
    if (values.empty()) return;
    cuda::check(cudaMemcpy(values.data(), from, count * sizeof(float), cudaMemcpyDeviceToHost),
                "reading input scales");
    for (const float value : values) text += " " + std::to_string(std::bit_cast<uint32_t>(value));
  };
  add(input_scale_, 1);
  add(input_offset_, 1);
  add(mul_, form_.k);
  digest(text, key_);
}

DeviceBound::Quantized DeviceBound::cut(cuda::Cutter& cutter, uint64_t m) const {
  Quantized out{};
  out.codes = cutter.take<uint8_t>(m * form_.k);
  out.scales = cutter.take<float>(m * coded_.groups());
  return out;
}

void DeviceBound::sizes(uint64_t m, ls_sizes& out) const {
  if (form_.weight_only()) {
    if (!gathers_) out.workspace_nbytes = decoded_.workspace_nbytes(m);
    return;
  }
  cuda::Cutter cutter(nullptr);
  cut(cutter, m);
  out.activation_nbytes = cutter.used();
  out.workspace_nbytes = coded_.workspace_nbytes(m);
  out.key_nbytes = sizeof key_;
  std::copy(std::begin(key_), std::end(key_), out.key);
}

void DeviceBound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only()) return;
  const cuda::OnDevice guard(device_);
  cuda::Cutter cutter(call.activation);
  const Quantized to = cut(cutter, call.m);
  cuda::RowsCall rows{call.x_dtype, call.x,        call.m,
                      form_.k,      call.x_stride, to.codes,
                      to.scales,    input_scale_,  cuda::stream_of(call)};
  rows.offset = input_offset_;
  rows.mul = mul_;
  const cudaError_t status = form_.spec.input == Input::fp8_group
                                 ? cuda::quantize_groups(rows, form_.spec.block_columns)
                                 : cuda::quantize_rows(rule_of(form_.spec.input), rows);
  cuda::check(status, "quantizing activations");
}

void DeviceBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  if (form_.weight_only()) return gathers_ ? decoded_.gather(call) : decoded_.run(call);
  cuda::Cutter cutter(call.activation);
  const Quantized from = cut(cutter, call.m);
  const cuda::CodedSegment all{0, form_.n, from.codes, from.scales};
  coded_.run(call, &all, 1);
}

}  // namespace loadstone::common::scaled
