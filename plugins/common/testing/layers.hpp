// Test side only: layers.json and layers.safetensors, cases enumerated.
#pragma once

#include <cmath>

#include "common/testing/driver.hpp"

namespace loadstone::common::testing {

/// The layer oracle, or nothing (`absent()`).
class Layers {
 public:
  static const Layers& get() {
    static const Layers one;
    return one;
  }
  static constexpr const char* kFile = "oracles/layers.json";

  bool absent() const { return json_.is_null(); }
  const Json& json() const { return json_; }
  const Json& cases() const { return json_["cases"]; }
  const Json& refusals() const { return json_["refusals"]; }
  const Tensor& at(const std::string& name) const { return tensors_.at(name); }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  uint64_t n(const std::string& layer) const { return json_["layers"][layer]["N"]; }
  uint64_t k(const std::string& layer) const { return json_["layers"][layer]["K"]; }
  uint64_t m(const std::string& layer) const { return at(layer + "/x").shape[0]; }

  /// The layer's float weight as one part.
  TestLayer floats(const std::string& layer) const {
    TestLayer out = empty(layer);
    out.tensor("weight", at(layer + "/weight"));
    return out;
  }
  TestLayer empty(const std::string& layer) const {
    TestLayer out;
    out.out = n(layer);
    out.in = k(layer);
    out.part("linear", 0, out.out);
    return out;
  }
  /// x, bias and shape of one apply.
  Driver::Run run(const std::string& layer) const {
    Driver::Run out;
    const Tensor& x = at(layer + "/x");
    out.x_dtype = TestLayer::dtype_of(x.dtype);
    out.x = x.bytes.data();
    out.m = x.shape[0];
    out.k = k(layer);
    out.n = n(layer);
    if (has(layer + "/bias")) {
      const Tensor& bias = at(layer + "/bias");
      out.bias = bias.bytes.data();
      out.bias_dtype = TestLayer::dtype_of(bias.dtype);
    }
    return out;
  }

  /// Checks `out` against a case's, row by row within its bounds.
  void expect_output(const Json& one, const std::vector<float>& found) const {
    const std::string layer = one["layer"], method = one["method"];
    const auto wanted = at(layer + "/" + method + "/out").as<float>();
    ASSERT_EQ(found.size(), wanted.size());
    const auto bounds = one["bound_rows"].get<std::vector<double>>();
    const uint64_t columns = wanted.size() / bounds.size();
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_LE(std::abs(static_cast<double>(found[i]) - wanted[i]), bounds[i / columns])
          << layer << " " << method << " row " << i / columns << " column " << i % columns;
    }
  }
  /// How far `found` lies outside the bounds: more than 1 where it isn't this case's output.
  double worst(const Json& one, const std::vector<float>& found) const {
    const std::string layer = one["layer"], method = one["method"];
    const auto wanted = at(layer + "/" + method + "/out").as<float>();
    const auto bounds = one["bound_rows"].get<std::vector<double>>();
    const uint64_t columns = wanted.size() / bounds.size();
    double out = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      out = std::max(out, std::abs(static_cast<double>(found[i]) - wanted[i]) /
                              std::max(bounds[i / columns], 1e-30));
    }
    return out;
  }
  /// What weights alone would give: x·Ŵᵀ + b with the activation as it is, in float64.
  std::vector<float> weight_only(const std::string& layer, const std::vector<float>& weight) const {
    const uint64_t rows = m(layer), columns = n(layer), depth = k(layer);
    std::vector<float> x(rows * depth), bias(columns, 0.0f), out(rows * columns);
    const Driver::Run input = run(layer);
    widen(input.x_dtype, input.x, x.data(), x.size());
    if (input.bias != nullptr) widen(input.bias_dtype, input.bias, bias.data(), columns);
    for (uint64_t i = 0; i < rows; ++i) {
      for (uint64_t j = 0; j < columns; ++j) {
        double sum = bias[j];
        for (uint64_t c = 0; c < depth; ++c) {
          sum += static_cast<double>(x[i * depth + c]) * weight[j * depth + c];
        }
        out[i * columns + j] = static_cast<float>(sum);
      }
    }
    return out;
  }

 private:
  Layers() {
    json_ = shared_json(kFile);
    if (!json_.is_null()) tensors_ = read_safetensors(shared_path("oracles/layers.safetensors"));
  }
  Json json_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace loadstone::common::testing
