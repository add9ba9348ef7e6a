// A layer ready to apply: y = x̂·Ŵᵀ as the format means it.
#pragma once

#include <vector>

#include "common/product/coded_product.hpp"
#include "fp8/form.hpp"

namespace loadstone::fp8 {

/// The kernel that apply runs, by the format: "fp8_channel_token", "fp8_block_weight_only".
std::string kernel_name(const Form& form);

/// Activations are quantized by prepare (shared by layers of equal key); weights only: no prepare.
class Bound {
 public:
  Bound(const Config& config, const sdk::Binding& binding);
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  /// Rows of one group's matrix that share a quantized activation.
  struct Segment {
    uint32_t group;
    uint64_t begin, count;
    uint64_t slot;  // which quantized activation
  };

  void find_segments(const float* input_scales);
  void set_key();
  bool grouped() const { return form_.groups > 1; }
  bool weight_only() const { return !form_.weight_only.empty(); }
  void prepare_slots(const ls_apply& call, char* activation) const;
  void prepare_slot(const ls_apply& call, uint64_t slot, void* activation) const;
  void apply_segments(const ls_apply& call, uint32_t group, const char* activation) const;
  void apply_groups(const ls_apply& call) const;
  float tensor_amax(const ls_apply& call) const;

  Form form_;
  const uint8_t* codes_;
  const float* scales_;
  std::vector<const float*> row_scales_;
  std::vector<Segment> segments_;
  std::vector<float> slots_;  // fixed: the input scale of each quantized activation; else one entry
  common::CodedProduct product_;
  sdk::BlockwiseApply blockwise_;
  uint8_t key_[32] = {};
};

}  // namespace loadstone::fp8
