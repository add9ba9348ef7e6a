// Tests read recorded tensors with this small reader of their own, so that what they compare with
// doesn't come through the code under test.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "base/tree.hpp"

namespace loadstone::testing {

using TensorFile = std::map<std::string, at::Tensor>;

inline at::ScalarType scalar_type_of(const std::string& name) {
  static const std::map<std::string, at::ScalarType> known = {
      {"F32", at::kFloat}, {"F64", at::kDouble}, {"BF16", at::kBFloat16}, {"F16", at::kHalf},
      {"I32", at::kInt},   {"I64", at::kLong},   {"U8", at::kByte}};
  return known.at(name);
}

inline TensorFile read_tensor_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_GT(bytes.size(), 8u) << path;
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  auto header = parse_json(std::string_view(bytes).substr(8, length), path);
  EXPECT_TRUE(header.ok()) << path;
  TensorFile out;
  for (const auto& [name, entry] : header->entries()) {
    if (name == "__metadata__") continue;
    std::vector<int64_t> shape;
    for (const Node& dim : entry.find("shape")->items()) shape.push_back(dim.integer());
    const auto begin = static_cast<size_t>(entry.find("data_offsets")->items()[0].integer());
    out[name] =
        at::from_blob(bytes.data() + 8 + length + begin, shape,
                      at::TensorOptions().dtype(scalar_type_of(entry.find("dtype")->text())))
            .clone();
  }
  return out;
}

/// ‖a - b‖₂/‖b‖₂ in float64.
inline double relative_l2(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return x.sub(y).norm().item().toDouble() / y.norm().item().toDouble();
}

}  // namespace loadstone::testing
