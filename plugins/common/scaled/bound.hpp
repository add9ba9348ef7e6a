// A scaled layer ready to apply: activations quantized as the dialect says, or weights alone.
#pragma once

#include <optional>
#include <vector>

#include "common/product/coded_product.hpp"
#include "common/product/int8_product.hpp"
#include "common/scaled/session.hpp"
#include "common/weight_only/weight_only.hpp"

namespace loadstone::common::scaled {

class Bound {
 public:
  Bound(Form form, const sdk::Binding& binding);
  void sizes(uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  void read_scales();
  void set_key();
  uint64_t workspace_nbytes(uint64_t m) const;
  uint64_t activation_nbytes(uint64_t m) const;
  const float* smooth(const ls_apply& call, uint32_t group, const float* x, float* room) const;
  void quantize(const ls_apply& call, uint32_t group, void* activation) const;
  float quantize_int8(uint32_t group, const float* x, int8_t* codes) const;
  void quantize_row(uint32_t group, const float* x, float* values, float* scales) const;
  void multiply(const ls_apply& call, uint32_t group, const void* activation) const;
  void decode(uint64_t row, uint16_t* out) const;
  void decode_levels(uint64_t row, const uint8_t* codes, uint16_t* out) const;
  float dot_nvfp4(uint64_t row, uint64_t begin, uint64_t count, const float* x) const;
  WeightOnlyProduct weights_of(const sdk::Layer& layer) const;
  void multiply_rows(uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y) const;
  void apply_weights(const ls_apply& call) const;
  void smooth_all(const ls_apply& call, char* out) const;

  const Form form_;
  std::vector<PartView> views_;
  const uint8_t* codes_;
  const int32_t* constants_ = nullptr;  // of rows
  std::vector<size_t> first_part_;      // of each group
  std::vector<float> input_scales_;     // of each group; as multipliers
  std::vector<float> input_factors_;    // of each group: g of nvfp4
  std::vector<float> input_offsets_;    // of each group: int8_affine
  std::vector<float> scales_;  // of rows, or of rows of blocks; what the product multiplies
  std::optional<CodedProduct> coded_;
  std::optional<Int8Product> int8_;
  WeightOnlyProduct weights_;
  uint8_t key_[32] = {};
};

}  // namespace loadstone::common::scaled
