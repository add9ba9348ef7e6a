// An MX layer ready to apply: activations quantized per token and group, float32 sums.
#pragma once

#include <vector>

#include "common/mx/session.hpp"
#include "common/product/coded_product.hpp"
#include "common/weight_only/weight_only.hpp"

namespace loadstone::common::mx {

/// 0: the activation has the weight's element; 1: e4m3 over e2m1 weights (W4A8). Errors (thrown):
/// LS_INVALID_ARGUMENT where steps decide and the run has none.
uint32_t variant_of(const Config& config, const Form& form, const ls_step& step);

class Bound {
 public:
  Bound(const Config& config, const sdk::Binding& binding);
  uint32_t variant(const ls_step& step) const { return variant_of(config_, form_, step); }
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  void quantize(const ls_apply& call, uint32_t group, void* activation) const;
  void smooth(const ls_apply& call, uint32_t group, const float* x, float* out) const;
  void multiply(const ls_apply& call, uint32_t group, const void* activation) const;
  void decode(uint64_t row, uint16_t* out) const;
  bool reads_codes(uint64_t m) const;
  float dot(uint64_t row, uint64_t begin, uint64_t count, const float* x) const;
  WeightOnlyProduct weights_of(const sdk::Layer& layer) const;
  void multiply_rows(uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y) const;
  void decode_row(uint64_t row, float* out) const;
  void set_keys();

  const Config& config_;
  Form form_;
  Stored stored_;
  std::vector<uint8_t> tops_;      // single scale: each row's largest byte
  std::vector<float> row_scales_;  // and 2^(top-127)
  std::vector<float> mul_[3];      // mul_scale as float32, bf16 and float16 values
  CodedProduct product_;
  WeightOnlyProduct weights_;
  uint8_t keys_[2][32] = {};
};

}  // namespace loadstone::common::mx
