// A layer ready to apply: activations quantized per token, exact integer sums.
#pragma once

#include "common/product/int8_product.hpp"
#include "int8/form.hpp"

namespace loadstone::int8 {

class Bound {
 public:
  Bound(const Config& config, const sdk::Binding& binding);
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  void quantize(const ls_apply& call, void* activation) const;
  void apply_groups(const ls_apply& call) const;

  Form form_;
  const int8_t* codes_;
  const float* scales_;
  common::Int8Product product_;
  sdk::BlockwiseApply blockwise_;
};

}  // namespace loadstone::int8
