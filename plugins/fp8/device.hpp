// fp8 layers on a GPU: activations quantized there as the CPU does, products on tensor cores
// without fast accumulation (numeric-definitions, section 12), or on plain units where a shape
// doesn't fit.
#pragma once

#include <vector>

#include "common/cuda/coded_layer.hpp"
#include "common/cuda/decoded_layer.hpp"
#include "fp8/form.hpp"

namespace loadstone::fp8 {

/// Changes the form to what the target runs (before sm 89: weights only); false, with the verdict,
/// for what no kernel does.
bool fit_device(const sdk::Target& target, Form& form, common::NoForm& instead);

/// "fp8_channel_token_fp8_tiles" (sm 90), "…_cublaslt", "…_simt",
/// "fp8_channel_weight_only_cublaslt".
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
  /// A quantized activation and the rows of W that read it.
  struct Slot {
    const float* input_scale = nullptr;               // fixed: on the device
    std::vector<std::pair<uint64_t, uint64_t>> rows;  // begin, count
  };
  struct Quantized {
    uint8_t* codes;
    float* scales;
    float* amax;
  };

  bool weight_only() const { return !form_.weight_only.empty(); }
  void find_slots(const sdk::Binding& binding);
  Quantized cut(common::cuda::Cutter& cutter, uint64_t m) const;

  Form form_;
  bool gathers_ = false;
  int device_ = 0;
  common::cuda::CodedLayer coded_;
  common::cuda::DecodedLayer decoded_;
  std::vector<Slot> slots_;
  uint8_t key_[32] = {};
};

}  // namespace loadstone::fp8
