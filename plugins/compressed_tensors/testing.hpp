// Test side only: schemes and layers of this plugin's tests.
#pragma once

#include "common/testing/one_layer.hpp"

namespace loadstone::compressed_tensors {

using common::testing::any_refusal;
using common::testing::Driver;
using common::testing::Json;
using common::testing::Refusal;
using common::testing::TestLayer;

/// config_groups of one group over all linears.
inline Json one_group(const Json& weights, const Json& input = Json()) {
  return {
      {"group_0",
       {{"targets", {"Linear", "Embedding"}}, {"weights", weights}, {"input_activations", input}}}};
}

inline Json channel8() { return {{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}}; }

inline Json group_of(int bits, int size) {
  return {{"num_bits", bits}, {"type", "int"}, {"strategy", "group"}, {"group_size", size}};
}

inline TestLayer empty_layer(uint64_t n, uint64_t k,
                             const std::string& module = "blocks.0.linear") {
  TestLayer out;
  out.out = n;
  out.in = k;
  out.path = module;
  out.part(module, 0, n);
  return out;
}

/// int8 codes that differ, and `scales` scales of one row each, or one.
inline TestLayer int8_layer(uint64_t n, uint64_t k, uint64_t scales,
                            const std::string& module = "blocks.0.linear") {
  TestLayer out = empty_layer(n, k, module);
  std::vector<int8_t> codes(n * k);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int8_t>(i * 37);
  out.tensor("weight", LS_DTYPE_I8, {n, k}, codes);
  const std::vector<float> values(scales, 0.25f);
  if (scales == 1) {
    out.tensor("weight_scale", LS_DTYPE_F32, {1}, values);
  } else {
    out.tensor("weight_scale", LS_DTYPE_F32, {scales, 1}, values);
  }
  return out;
}

}  // namespace loadstone::compressed_tensors
