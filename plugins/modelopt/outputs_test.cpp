// Outputs of what the layer oracle has no case of: int8 (static, per token, weights alone),
// W4A8_AWQ and W4A8_NVFP4_FP8, with and without pre_quant_scale, against numeric-definitions
// (sections 2, 3, 5, 6) written out in double precision.
#include <cmath>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/testing/one_layer.hpp"

namespace loadstone::modelopt {
namespace {

using namespace common::testing;

constexpr uint64_t kRows = 24, kColumns = 128, kTokens = 5, kGroup = 32;
constexpr float kInputScale = 0.00625f;  // cuts values above 0.79 (int8), 2.8 (e4m3)

enum class Input { none, int8_fixed, int8_token, fp8_fixed };

/// A layer as it is stored, and its weight.
struct Given {
  TestLayer layer = empty(kRows, kColumns);
  std::vector<double> weight = std::vector<double>(kRows * kColumns);
};

float scale_of(uint64_t i) { return 0.01f + 0.0007f * static_cast<float>(i % 13); }

Given int8_weights() {
  Given out;
  Random random(3);
  std::vector<int8_t> codes(kRows * kColumns);
  std::vector<float> scales(kRows);
  for (uint64_t n = 0; n < kRows; ++n) scales[n] = scale_of(n);
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<int8_t>(random.bits());
    out.weight[i] = static_cast<float>(codes[i]) * scales[i / kColumns];
  }
  out.layer.tensor("weight", LS_DTYPE_I8, {kRows, kColumns}, codes);
  out.layer.tensor("weight_scale", LS_DTYPE_F32, {kRows}, scales);
  return out;
}

/// Byte (j, k) holds rows 2j (low) and 2j+1 (high), two's complement.
Given int4_weights() {
  Given out;
  Random random(4);
  std::vector<uint8_t> bytes(kRows / 2 * kColumns);
  std::vector<float> scales(kRows * kColumns / kGroup);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = scale_of(i);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.bits());
  for (size_t i = 0; i < out.weight.size(); ++i) {
    const uint64_t row = i / kColumns;
    const int bits = bytes[row / 2 * kColumns + i % kColumns] >> (row % 2 * 4) & 15;
    out.weight[i] = static_cast<float>(bits < 8 ? bits : bits - 16) * scales[i / kGroup];
  }
  out.layer.tensor("weight", LS_DTYPE_U8, {kRows / 2, kColumns}, bytes);
  out.layer.tensor("weight_scale", LS_DTYPE_F32, {kRows, kColumns / kGroup}, scales);
  out.layer.tensor("weight_scale_2", LS_DTYPE_F32, {}, std::vector<float>{0.125f});
  return out;
}

/// value(q)·(float(sc)·s2), an even column's code low.
Given nvfp4_weights() {
  constexpr float kGlobal = 0.0375f;
  Given out;
  Random random(5);
  std::vector<uint8_t> bytes(kRows * kColumns / 2), scales(kRows * kColumns / kGroup);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.bits());
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<uint8_t>(0x28 + i % 17);
  for (size_t i = 0; i < out.weight.size(); ++i) {
    const float code = common::e2m1_decode(bytes[i / 2] >> (i % 2 * 4) & 15);
    out.weight[i] = code * (common::e4m3_decode(scales[i / kGroup]) * kGlobal);
  }
  out.layer.tensor("weight", LS_DTYPE_U8, {kRows, kColumns / 2}, bytes);
  out.layer.tensor("weight_scale", LS_DTYPE_F8_E4M3, {kRows, kColumns / kGroup}, scales);
  out.layer.tensor("weight_scale_2", LS_DTYPE_F32, {}, std::vector<float>{kGlobal});
  return out;
}

float in_bf16(float value) { return common::bf16_decode(common::bf16_encode(value)); }

/// A token as the product reads it.
std::vector<double> quantized(Input input, const std::vector<float>& x) {
  std::vector<double> out(x.begin(), x.end());
  float amax = 0;
  for (const float value : x) amax = std::max(amax, std::abs(value));
  for (size_t i = 0; i < x.size(); ++i) {
    if (input == Input::int8_fixed) {
      const float code = std::nearbyint(x[i] / kInputScale);
      out[i] = double{std::min(127.0f, std::max(-128.0f, code))} * kInputScale;
    } else if (input == Input::int8_token) {
      out[i] = double{std::nearbyint(x[i] * (127.0f / amax))} * (amax / 127.0f);
    } else if (input == Input::fp8_fixed) {
      const float level = x[i] * (1.0f / kInputScale);
      const uint8_t code = common::e4m3_encode(std::min(448.0f, std::max(-448.0f, level)));
      out[i] = double{common::e4m3_decode(code)} * kInputScale;
    }
  }
  return out;
}

/// Row by row: outputs [tokens, rows] and their bound (section 12).
struct Wanted {
  std::vector<double> y, bound;
};

Wanted product(const Given& given, const std::vector<std::vector<double>>& tokens) {
  Wanted out;
  for (const auto& x : tokens) {
    double largest = 0;
    for (uint64_t n = 0; n < kRows; ++n) {
      double sum = 0, size = 0;
      for (uint64_t k = 0; k < kColumns; ++k) {
        const double one = x[k] * given.weight[n * kColumns + k];
        sum += one;
        size += std::abs(one);
      }
      largest = std::max(largest, size);
      out.y.push_back(sum);
    }
    out.bound.push_back((kColumns + 8) * std::ldexp(1.0, -24) * largest);
  }
  return out;
}

double worst(const std::vector<float>& y, const Wanted& wanted) {
  double out = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    out = std::max(out, std::abs(y[i] - wanted.y[i]) / wanted.bound[i / kRows]);
  }
  return out;
}

struct Case {
  const char* algorithm;
  Given (*weights)();
  Input input;
};

class ModelOptOutputs : public ::testing::TestWithParam<Case> {
 protected:
  /// `factors` empty: no pre_quant_scale.
  void expect_outputs(const std::vector<float>& factors, bool bf16) {
    const Case& one = GetParam();
    Given given = one.weights();
    if (one.input == Input::int8_fixed || one.input == Input::fp8_fixed) {
      given.layer.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{kInputScale});
    }
    if (!factors.empty()) {
      given.layer.tensor("pre_quant_scale", LS_DTYPE_F32, {kColumns}, factors);
    }
    const auto round = [&](float value) { return bf16 ? in_bf16(value) : value; };
    std::vector<float> x = random_values(kTokens * kColumns, 6);
    std::vector<std::vector<double>> tokens, plain;
    for (uint64_t t = 0; t < kTokens; ++t) {
      std::vector<float> token;
      for (uint64_t k = 0; k < kColumns; ++k) {
        float& value = x[t * kColumns + k];
        value = round(value * (k == 7 ? 4.0f : 1.0f));
        token.push_back(factors.empty() ? value : round(value * round(factors[k])));
      }
      tokens.push_back(quantized(one.input, token));
      plain.push_back(quantized(Input::none, token));
    }
    Driver driver("modelopt");
    driver.configure({{"quant_algo", one.algorithm}});
    Produced produced = driver.produce(given.layer);
    Driver::Run run = run_of(x, kColumns, kRows);
    std::vector<uint16_t> halves(x.size());
    common::bf16_encode(x.data(), halves.data(), x.size());
    if (bf16) {
      run.x_dtype = LS_DTYPE_BF16;
      run.x = halves.data();
    }
    const std::vector<float> y = driver.apply(given.layer, produced, run);
    EXPECT_LE(worst(y, product(given, tokens)), 1.0);
    if (one.input != Input::none) {
      EXPECT_GT(worst(y, product(given, plain)), 1.0) << "can't tell quantized activations";
    }
  }
};

TEST_P(ModelOptOutputs, AreTheDefinitions) {
  for (const bool bf16 : {false, true}) {
    SCOPED_TRACE(bf16 ? "bf16" : "float32");
    expect_outputs({}, bf16);
  }
}

TEST_P(ModelOptOutputs, APreQuantScaleMultipliesTheInputFirst) {
  std::vector<float> factors(kColumns);
  for (uint64_t k = 0; k < kColumns; ++k) factors[k] = 0.3f + 0.013f * static_cast<float>(k % 97);
  for (const bool bf16 : {false, true}) {
    SCOPED_TRACE(bf16 ? "bf16" : "float32");
    expect_outputs(factors, bf16);
  }
}

INSTANTIATE_TEST_SUITE_P(
    WithoutOracle, ModelOptOutputs,
    ::testing::Values(Case{"W8A8_SQ_PER_CHANNEL", int8_weights, Input::int8_fixed},
                      Case{"W8A8_SQ_PER_CHANNEL", int8_weights, Input::int8_token},
                      Case{"W8A16", int8_weights, Input::none},
                      Case{"W4A8_AWQ", int4_weights, Input::fp8_fixed},
                      Case{"W4A8_NVFP4_FP8", nvfp4_weights, Input::fp8_fixed}),
    [](const auto& one) {
      const Input input = one.param.input;
      const char* activations = input == Input::none         ? "_plain"
                                : input == Input::int8_token ? "_token"
                                                             : "_fixed";
      return std::string(one.param.algorithm) + activations;
    });

}  // namespace
}  // namespace loadstone::modelopt
