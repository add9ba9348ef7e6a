#include "int8/device.hpp"

#include "common/cuda/quantize.hpp"
#include "common/cuda/target.hpp"
#include "common/digest.hpp"

namespace loadstone::int8 {
namespace {

namespace cuda = common::cuda;

cuda::CodedMatrix matrix_of(const Form& form, const void* codes, const void* scales) {
  cuda::CodedMatrix out;
  out.kind = cuda::CodeKind::int8;
  out.codes = static_cast<const uint8_t*>(codes);
  out.scales = scales;
  out.n = form.n;
  out.k = form.k;
  out.scale_width = form.k;
  out.map = cuda::ScaleMap::rows(form.n);
  return out;
}

std::string_view unit_of(const Form& form, uint32_t sm) {
  return cuda::CodedLayer(matrix_of(form, nullptr, nullptr), 0).unit(sm);
}

cuda::CodedMatrix bound_matrix(const Form& form, const sdk::Binding& binding) {
  return matrix_of(form, binding.stored.raw(0).at, binding.stored.raw(1).at);
}

struct Quantized {
  uint8_t* codes;
  float* scales;
};

Quantized cut(cuda::Cutter& cutter, uint64_t m, uint64_t k) {
  Quantized out{};
  out.codes = cutter.take<uint8_t>(m * k);
  out.scales = cutter.take<float>(m);
  return out;
}

}  // namespace

std::string device_kernel_name(const Form& form, uint32_t sm) {
  if (form.weight_only) return "int8_channel_weight_only_lookup";
  return "int8_channel_token_" + std::string(unit_of(form, sm));
}

std::string device_reason(const Form& form) {
  const bool simt = !form.weight_only && unit_of(form, 0) == "simt";
  return simt ? cuda::simt_reason(form.n, form.k) : "";
}

DeviceBound::DeviceBound(const Config& config, const sdk::Binding& binding)
    : form_(form_of(config, binding.layer)),
      device_(cuda::device_of(binding.stored.raw(0).at)),
      coded_(bound_matrix(form_, binding), 0),
      decoded_(bound_matrix(form_, binding)) {}

void DeviceBound::sizes(uint32_t, uint64_t m, ls_sizes& out) const {
  if (form_.weight_only) return;
  cuda::Cutter cutter(nullptr);
  cut(cutter, m, form_.k);
  out.activation_nbytes = cutter.used();
  out.workspace_nbytes = coded_.workspace_nbytes(m);
  out.key_nbytes = sizeof out.key;
  common::digest("cuda int8 token " + std::to_string(form_.k), out.key);
}

void DeviceBound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only) return;
  const cuda::OnDevice guard(device_);
  cuda::Cutter cutter(call.activation);
  const Quantized to = cut(cutter, call.m, form_.k);
  cuda::check(cuda::quantize_rows(cuda::RowRule::int8_row,
                                  {call.x_dtype, call.x, call.m, form_.k, call.x_stride, to.codes,
                                   to.scales, nullptr, cuda::stream_of(call)}),
              "quantizing activations");
}

void DeviceBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  if (form_.weight_only) return decoded_.gather(call);
  cuda::Cutter cutter(call.activation);
  const Quantized from = cut(cutter, call.m, form_.k);
  const cuda::CodedSegment all{0, form_.n, from.codes, from.scales};
  coded_.run(call, &all, 1);
}

}  // namespace loadstone::int8
