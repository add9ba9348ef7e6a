// Scaled layers on a GPU: activations quantized there as the CPU does; products of 8-bit codes by
// cublasLt (or plain units where a shape doesn't fit them), scales, constants and bias while
// finishing; weights alone are decoded layer by layer.
#pragma once

#include "common/cuda/coded_layer.hpp"
#include "common/cuda/decoded_layer.hpp"
#include "common/scaled/form.hpp"

namespace loadstone::common::scaled {

/// False, with the verdict, for what no kernel does: experts, packed codes, zero points. GPUs
/// without fp8 units take fp8 weights alone: `form` becomes that.
bool fit_device(const sdk::Target& target, Form& form, NoForm& instead);

/// "int8_channel_int8_token_cublaslt", "fp8_channel_fp8_token_simt",
/// "int8_group_weight_only_lookup".
std::string device_kernel_name(const Form& form, const sdk::Layer& layer);
/// What a plan says beside the kernel's name; "" if there is nothing to say. `asked`: the form
/// before fit_device.
std::string device_reason(const sdk::Target& target, const Form& asked, const Form& form);

/// Bound's calls on the device (bound.hpp).
class DeviceBound {
 public:
  DeviceBound(Form form, const sdk::Binding& binding);
  void sizes(uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  /// What prepare fills: codes and scales, and behind them what isn't float32 in the file.
  struct Quantized {
    uint8_t* codes;
    float *scales, *input_scale, *input_offset, *mul;
  };
  /// A stored tensor that activations are quantized with.
  struct Factor {
    cuda::ScaleKind kind = cuda::ScaleKind::f32;
    const void* at = nullptr;
    uint64_t count = 0;
  };
  Factor factor_of(Which which, uint64_t count, const sdk::Binding& binding) const;
  const float* widened(const Factor& factor, float* room, const ls_apply& call) const;
  Quantized cut(cuda::Cutter& cutter, uint64_t m) const;
  void set_key();

  Form form_;
  bool gathers_;
  int device_ = 0;
  Factor input_scale_, input_offset_, mul_;
  cuda::CodedLayer coded_;
  cuda::DecodedLayer decoded_;
  uint8_t key_[32] = {};
};

}  // namespace loadstone::common::scaled
