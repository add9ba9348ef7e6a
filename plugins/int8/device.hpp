// int8 layers on a GPU: activations quantized there as the CPU does, exact int32 sums by cublasLt
// (or plain units where a shape doesn't fit them), scales and bias while finishing.
#pragma once

#include "common/cuda/coded_layer.hpp"
#include "common/cuda/decoded_layer.hpp"
#include "int8/form.hpp"

namespace loadstone::int8 {

/// "int8_channel_token_int8_tiles" (sm 90), "…_cublaslt", "…_simt",
/// "int8_channel_weight_only_lookup".
std::string device_kernel_name(const Form& form, uint32_t sm);
/// What a plan says beside the kernel's name; "" if there is nothing to say.
std::string device_reason(const Form& form);

/// Bound::prepare and apply on the device (bound.hpp).
class DeviceBound {
 public:
  DeviceBound(const Config& config, const sdk::Binding& binding);
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  Form form_;
  int device_ = 0;
  common::cuda::CodedLayer coded_;
  common::cuda::DecodedLayer decoded_;
};

}  // namespace loadstone::int8
