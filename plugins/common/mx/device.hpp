// MX layers on a GPU: no tensor core before sm 100 takes groups of 32, but their values are exact
// in bf16: activations are rounded to them as the CPU does, weights decoded layer by layer, and the
// product is bf16's with float32 sums; under dual scales one whose groups are scaled as they are
// added.
#pragma once

#include "common/cuda/decoded_layer.hpp"
#include "common/mx/bound.hpp"

namespace loadstone::common::mx {

/// False, with the verdict, for what no kernel does: experts, and dual scales whose activations
/// aren't quantized (rows that are looked up).
bool fit_device(const Config& config, const sdk::Target& target, const Form& form, NoForm& instead);

/// "mxfp8_w8a8_cublaslt_bf16", "mxfp4_dualscale_w4a4_mma_bf16", "mxfp4_weight_only_cublaslt",
/// "mxfp4_weight_only_lookup".
std::string device_kernel_name(const Config& config, const Form& form, const sdk::Layer& layer);

/// Bound's calls on the device (bound.hpp).
class DeviceBound {
 public:
  DeviceBound(const Config& config, const sdk::Binding& binding);
  uint32_t variant(const ls_step& step) const { return variant_of(config_, form_, step); }
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  void set_keys();

  const Config& config_;
  Form form_;
  bool gathers_;
  int device_ = 0;
  const float* mul_ = nullptr;    // on the device
  const float* outer_ = nullptr;  // the same
  cuda::DecodedLayer decoded_;
  uint8_t keys_[2][32] = {};
};

}  // namespace loadstone::common::mx
