#include "common/mx/device.hpp"

#include <algorithm>
#include <bit>

#include "common/cuda/mx.hpp"
#include "common/cuda/target.hpp"
#include "common/digest.hpp"
#include "common/numerics/dual.hpp"

namespace loadstone::common::mx {
namespace {

cuda::CodedMatrix matrix_of(const Form& form, const sdk::Binding& binding) {
  cuda::CodedMatrix out;
  out.kind = form.element == MxElement::e4m3 ? cuda::CodeKind::e4m3 : cuda::CodeKind::e2m1;
  out.scale_kind = cuda::ScaleKind::e8m0;
  out.codes = static_cast<const uint8_t*>(binding.stored.raw(0).at);
  out.scales = binding.stored.raw(1).at;
  out.n = form.n;
  out.k = form.k;
  out.scale_columns = form.scale_columns();
  out.scale_width = kMxGroup;
  out.map = cuda::ScaleMap::rows(form.n);
  return out;
}

/// A quantized activation: values, and outer scales where they are dual.
struct Rounded {
  void* values;
  float* outer;
};

Rounded cut(const Form& form, cuda::Cutter& cutter, uint64_t m) {
  Rounded out{};
  out.values = cutter.take<uint16_t>(m * form.k);
  out.outer = cutter.take<float>(m * form.outer_columns());
  return out;
}

}  // namespace

bool fit_device(const Config& config, const sdk::Target& target, const Form& form,
                NoForm& instead) {
  if (form.decodes) return true;  // plain floats, made in host memory
  if (form.dual && form.weight_only) {
    return instead.set(
        LS_VERDICT_UNSUPPORTED,
        std::string(config.method) + ": dual scales without activations have no CUDA kernel");
  }
  return cuda::takes(config.method, target, form.groups, instead);
}

std::string device_kernel_name(const Config& config, const Form& form, const sdk::Layer& layer) {
  if (layer.kind() == LS_KIND_GATHER) return kernel_name(config, form) + "_lookup";
  if (form.weight_only) return kernel_name(config, form) + "_cublaslt";
  return kernel_name(config, form) + (form.dual ? "_mma_bf16" : "_cublaslt_bf16");
}

DeviceBound::DeviceBound(const Config& config, const sdk::Binding& binding)
    : config_(config),
      form_(form_of(config, binding.layer)),
      gathers_(binding.layer.kind() == LS_KIND_GATHER),
      device_(cuda::device_of(binding.stored.raw(0).at)),
      decoded_(matrix_of(form_, binding)) {
  NoForm instead;
  if (!fit_device(config, binding.target, form_, instead)) {
    sdk::fail(LS_UNSUPPORTED, instead.reason);
  }
  if (form_.dual) {
    outer_ = static_cast<const float*>(binding.stored.raw(form_.outer_index()).at);
  }
  if (form_.has_mul) {
    mul_ = static_cast<const float*>(binding.stored.raw(form_.mul_index()).at);
  }
  set_keys();
}

void DeviceBound::set_keys() {
  std::vector<float> mul(form_.has_mul ? form_.k : 0);
  if (!mul.empty()) {
    cuda::check(cudaMemcpy(mul.data(), mul_, mul.size() * sizeof(float), cudaMemcpyDeviceToHost),
                "reading smoothing scales");
  }
  for (uint32_t variant = 0; variant < 2; ++variant) {
    const bool e4m3 = variant == 1 || form_.element == MxElement::e4m3;
    const MxRule rule = variant == 1 ? MxRule::ocp : config_.rule;
    std::string text = (form_.dual ? "cuda mx dual " : "cuda mx ") + std::to_string(e4m3) + " " +
                       std::to_string(static_cast<int>(rule)) + " " + std::to_string(form_.k);
    for (const float value : mul) text += " " + std::to_string(std::bit_cast<uint32_t>(value));
    digest(text, keys_[variant]);
  }
}

void DeviceBound::sizes(uint32_t variant, uint64_t m, ls_sizes& out) const {
  if (!gathers_) out.workspace_nbytes = decoded_.workspace_nbytes(m);
  if (form_.weight_only) return;
  cuda::Cutter cutter(nullptr);
  cut(form_, cutter, m);
  out.activation_nbytes = cutter.used();
  out.key_nbytes = sizeof out.key;
  std::copy(std::begin(keys_[variant & 1]), std::end(keys_[variant & 1]), out.key);
}

void DeviceBound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only) return;
  const cuda::OnDevice guard(device_);
  cuda::Cutter cutter(call.activation);
  const Rounded to = cut(form_, cutter, call.m);
  if (form_.dual) {
    const cuda::DualRound round{call.x_dtype, call.x,   mul_,
                                call.m,       form_.k,  call.x_stride,
                                to.values,    to.outer, cuda::stream_of(call)};
    return cuda::check(cuda::dual_round_rows(round), "quantizing activations");
  }
  const bool w4a8 = (call.variant & 1) != 0;
  cuda::MxRound round{};
  round.rule = w4a8 ? MxRule::ocp : config_.rule;
  round.element = w4a8 ? MxElement::e4m3 : form_.element;
  round.dtype = call.x_dtype;
  round.x = call.x;
  round.mul = mul_;
  round.m = call.m;
  round.k = form_.k;
  round.stride = call.x_stride;
  round.values = to.values;
  round.stream = cuda::stream_of(call);
  cuda::check(cuda::mx_round_rows(round), "quantizing activations");
}

void DeviceBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  if (form_.weight_only) return gathers_ ? decoded_.gather(call) : decoded_.run(call);
  cuda::Cutter cutter(call.activation);
  const Rounded from = cut(form_, cutter, call.m);
  ls_apply own = call;
  own.x = from.values;
  own.x_dtype = LS_DTYPE_BF16;
  own.x_stride = form_.k;
  if (form_.dual) return decoded_.run_grouped(own, kDualGroup, from.outer, outer_);
  decoded_.run(own);
}

}  // namespace loadstone::common::mx
