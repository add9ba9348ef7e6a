// The plugin's rules: descriptions, layouts, products, what it refuses and in which words.
#include <cmath>
#include <functional>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/testing/one_layer.hpp"

namespace loadstone::msmodelslim {
namespace {

using namespace common::testing;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int8_t> codes_of(uint64_t count, int low = -128, int high = 127) {
  Random random(static_cast<uint32_t>(count));
  std::vector<int8_t> out(count);
  for (int8_t& code : out) {
    code = static_cast<int8_t>(low + static_cast<int>(random.bits() % (high - low + 1)));
  }
  return out;
}

std::vector<float> scales_of(uint64_t count) {
  Random random(5);
  std::vector<float> out(count);
  for (float& scale : out) scale = 0.01f + 0.01f * std::abs(random.uniform());
  return out;
}

/// What W8A8 has, to be spoiled.
struct Static {
  uint64_t n = 6, k = 40;
  std::vector<int8_t> codes = codes_of(n * k);
  std::vector<float> deq_scale = scales_of(n), input_scale = {0.03f}, input_offset = {7.0f};
  std::vector<int32_t> quant_bias = std::vector<int32_t>(n, -1234);

  TestLayer layer() const {
    TestLayer out = empty(n, k);
    out.tensor("weight", LS_DTYPE_I8, {n, k}, codes);
    out.tensor("deq_scale", LS_DTYPE_F32, {n}, deq_scale);
    out.tensor("input_scale", LS_DTYPE_F32, {1}, input_scale);
    out.tensor("input_offset", LS_DTYPE_F32, {1}, input_offset);
    out.tensor("quant_bias", LS_DTYPE_I32, {n}, quant_bias);
    out.tensor("bias", LS_DTYPE_F32, {n}, std::vector<float>(n, 1.0f));
    return out;
  }
};

TestLayer dynamic(uint64_t n, uint64_t k, uint32_t dtype, const std::vector<int8_t>& codes,
                  float offset = 0.0f) {
  TestLayer out = empty(n, k);
  out.tensor("weight", dtype, {codes.size() / k, k}, codes);
  out.tensor("weight_scale", LS_DTYPE_F32, {n, 1}, scales_of(n));
  out.tensor("weight_offset", LS_DTYPE_F32, {n, 1}, std::vector<float>(n, offset));
  return out;
}

class MsModelSlim : public ::testing::Test {
 protected:
  std::string load_refusal(TestLayer layer, const std::string& type) {
    driver.configure({{"quant_type", type}});
    return any_refusal([&] { driver.produce(layer); });
  }
  std::vector<float> weight_of(TestLayer& layer, const std::string& type) {
    driver.configure({{"quant_type", type}});
    Produced produced = driver.produce(layer);
    return driver.dequantize(layer, produced, 0, layer.out, layer.in);
  }
  std::vector<float> product_of(TestLayer& layer, const std::vector<float>& x, uint64_t m) {
    Produced produced = driver.produce(layer);
    Driver::Run run;
    run.x = x.data();
    run.m = m;
    run.k = layer.in;
    run.n = layer.out;
    return driver.apply(layer, produced, run);
  }
  Driver driver{"msmodelslim"};
};

std::vector<float> activations(uint64_t m, uint64_t k) {
  Random random(9);
  std::vector<float> out(m * k);
  for (float& value : out) value = 3.0f * random.uniform();
  return out;
}

// ---- descriptions ------------------------------------------------------------------------------

TEST_F(MsModelSlim, DescriptionsNameModulesByType) {
  const Declared declared = driver.read_declaration(Json::parse(R"({
      "a.weight": "W8A8_DYNAMIC", "a.weight_scale": "W8A8_DYNAMIC", "a.bias": "FLOAT",
      "b.linear.weight": "w4a4_mxfp4", "b.div.mul_scale": "FLOAT", "b.linear.bias": "W4A4_MXFP4",
      "c.linear.weight": "W8A8_DYNAMIC", "norm.weight": "FLOAT", "modulation": "FLOAT",
      "version": "1.0.0", "model_quant_type": "W8A8_DYNAMIC", "metadata": {}, "group_size": 32,
      "optional": {}})"));
  EXPECT_EQ(declared.value("quant_description"),
            Json::parse(R"({"W4A4_MXFP4": ["b"], "W8A8_DYNAMIC": ["a", "c.linear"]})"));
  EXPECT_EQ(declared.value("model_quant_type"), "W8A8_DYNAMIC");
  ASSERT_EQ(declared.scopes.size(), 1u);
  EXPECT_EQ(declared.scopes[0].pattern, "norm");
  EXPECT_TRUE(declared.scopes[0].keep);
  EXPECT_EQ(declared.scopes[0].style, uint32_t{LS_STYLE_EXACT});
}

TEST_F(MsModelSlim, EachTypeThatIsNotReadIsNamedWithTheReason) {
  for (const char* type :
       {"W8A8S", "W8A8SC", "W16A16S", "W16A16SC", "W8A8_MIX", "W8A8_TIMESTEP", "W4A8_MXFP",
        "W4A4_MXFP4_SVD", "W4A4_FLATQUANT_DYNAMIC", "W4A16", "NF4", "C8", "FAQuant", "KV8"}) {
    const std::string text = any_refusal([&] { driver.read_declaration({{"a.weight", type}}); });
    const std::string start =
        std::string("declaration rejected: a.weight: found \"") + type + "\", which is not read: ";
    EXPECT_EQ(text.substr(0, start.size()), start);
    EXPECT_GT(text.size(), start.size() + 20) << text;
    EXPECT_NE(any_refusal([&] {
                driver.configure({{"quant_type", type}});
              }).find("\", which is not read: "),
              std::string::npos);
  }
  EXPECT_EQ(any_refusal([&] {
              driver.read_declaration({{"blocks.0.attn.quant_type", "FAQuant"}});
            }),
            "declaration rejected: blocks.0.attn.quant_type: found \"FAQuant\", which is not read: "
            "a quantized KV cache belongs to Ascend's attention; export without it");
}

TEST_F(MsModelSlim, UnknownTypesAreRefusedWithThoseThatAreRead) {
  const std::string expected =
      "W8A8, W8A8_DYNAMIC, W8A16, W4A8_DYNAMIC, W4A4_DYNAMIC, WFP8AFP8_DYNAMIC, W8A8_MXFP8, "
      "W4A4_MXFP4 or W4A4_MXFP4_DUALSCALE";
  EXPECT_EQ(any_refusal([&] {
              driver.read_declaration({{"a.weight", "W3A3"}});
            }),
            "declaration rejected: a.weight: found \"W3A3\", expected FLOAT, " + expected);
  EXPECT_EQ(any_refusal([&] {
              driver.configure({{"quant_type", "W3A3"}});
            }),
            "quant_type rejected: found \"W3A3\", expected " + expected);
}

TEST_F(MsModelSlim, QuantTypeAgreesWithTheDescription) {
  const Json described = {{"W8A8", {"a"}}};
  driver.configure({{"quant_type", "W8A8"}, {"quant_description", described}});
  EXPECT_EQ(any_refusal([&] {
              driver.configure({{"quant_type", "W8A8_DYNAMIC"}, {"quant_description", described}});
            }),
            "quant_type rejected: found W8A8_DYNAMIC, expected W8A8 as "
            "quant_model_description.json says, or nothing");
}

TEST_F(MsModelSlim, ModulesAreFoundByTheFilesNames) {
  TestLayer layer = dynamic(2, 8, LS_DTYPE_I8, codes_of(16));
  for (const char* name :
       {"blocks.0.linear", "transformer.blocks.0.linear", "model.diffusion_model.blocks.0.linear",
        "diffusion_model.blocks.0.linear"}) {
    driver.configure({{"quant_description", {{"W8A8_DYNAMIC", {name}}}}});
    EXPECT_EQ(driver.plan(layer).work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << name;
  }
  driver.configure({{"quant_description", {{"W8A8_DYNAMIC", {"blocks.1.linear"}}}}});
  EXPECT_EQ(any_refusal([&] { driver.plan(layer); }),
            "weight has no type: blocks.0.linear.weight: found I8, expected its type in "
            "quant_model_description.json (W8A8, W8A8_DYNAMIC, W8A16, W4A8_DYNAMIC, W4A4_DYNAMIC, "
            "WFP8AFP8_DYNAMIC, W8A8_MXFP8, W4A4_MXFP4 or W4A4_MXFP4_DUALSCALE)");
}

// ---- layouts -----------------------------------------------------------------------------------

TEST_F(MsModelSlim, StaticInt8IsCodeTimesDeqScaleOverInputScale) {
  const Static given;
  TestLayer layer = given.layer();
  const auto w = weight_of(layer, "W8A8");
  for (size_t i = 0; i < w.size(); ++i) {
    const float scale = given.deq_scale[i / given.k] / given.input_scale[0];
    EXPECT_EQ(w[i], static_cast<float>(given.codes[i]) * scale) << i;
  }
}

TEST_F(MsModelSlim, StaticInt8AddsQuantBiasToTheSumAndNoBias) {
  const Static given;
  TestLayer layer = given.layer();
  driver.configure({{"quant_type", "W8A8"}});
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.bias, uint32_t{LS_BIAS_BY_METHOD});
  EXPECT_EQ(answer.kernel, "int8_channel_int8_static");
  EXPECT_EQ(answer.unused.at(5), "quant_bias holds it");
  const uint64_t m = 5;
  const auto x = activations(m, given.k);
  const auto y = product_of(layer, x, m);
  for (uint64_t i = 0; i < m; ++i) {
    for (uint64_t j = 0; j < given.n; ++j) {
      int32_t sum = given.quant_bias[j];
      for (uint64_t c = 0; c < given.k; ++c) {
        const float scaled = x[i * given.k + c] * (1.0f / given.input_scale[0]);
        const float code = std::nearbyint(scaled + given.input_offset[0]);
        sum += static_cast<int32_t>(std::fmax(-128.0f, std::fmin(code, 127.0f))) *
               given.codes[j * given.k + c];
      }
      EXPECT_EQ(y[i * given.n + j], static_cast<float>(sum) * given.deq_scale[j]) << i << " " << j;
    }
  }
}

TEST_F(MsModelSlim, Weights16BitsAreCodeLessOffsetTimesScale) {
  for (const uint64_t groups : {1u, 4u}) {
    const uint64_t n = 3, k = 64;
    const auto codes = codes_of(n * k);
    const auto scales = scales_of(n * groups);
    std::vector<float> offsets(n * groups);
    for (size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<float>(i) - 3.5f;
    TestLayer layer = empty(n, k);
    layer.tensor("weight", LS_DTYPE_I8, {n, k}, codes);
    layer.tensor("weight_scale", LS_DTYPE_F32, {n, groups}, scales);
    layer.tensor("weight_offset", LS_DTYPE_F32, {n, groups}, offsets);
    const auto w = weight_of(layer, "W8A16");
    for (size_t i = 0; i < w.size(); ++i) {
      const size_t g = i / k * groups + i % k / (k / groups);
      EXPECT_EQ(w[i], (static_cast<float>(codes[i]) - offsets[g]) * scales[g]) << i;
    }
    EXPECT_EQ(driver.plan(layer).work.activation_error, 0.0);
  }
}

TEST_F(MsModelSlim, PackedInt4PairsRows) {
  const uint64_t n = 6, k = 96;
  const auto wide = codes_of(n * k, -8, 7);
  std::vector<int8_t> packed(n * k / 2);
  for (uint64_t i = 0; i < packed.size(); ++i) {
    const uint64_t row = i / k * 2;
    packed[i] =
        static_cast<int8_t>((wide[row * k + i % k] & 15) | wide[(row + 1) * k + i % k] << 4);
  }
  TestLayer small = dynamic(n, k, LS_DTYPE_I8, packed), large = dynamic(n, k, LS_DTYPE_I8, wide);
  small.tensor("scale_bias", LS_DTYPE_F32, {n, 1}, std::vector<float>(n, kNan));
  const auto w = weight_of(small, "W4A8_DYNAMIC");
  EXPECT_EQ(w, weight_of(large, "W4A8_DYNAMIC"));
  const auto scales = scales_of(n);
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(w[i], static_cast<float>(wide[i]) * scales[i / k]) << i;
  }
  EXPECT_EQ(driver.plan(small).unused.at(3),
            "a constant of Ascend's int4 kernel, which this product has no use for");
  const auto x = activations(3, k);
  EXPECT_EQ(product_of(small, x, 3), product_of(large, x, 3));
}

TEST_F(MsModelSlim, FourBitActivationsReachSeven) {
  const uint64_t n = 3, k = 48, m = 2;
  const auto codes = codes_of(n * k, -8, 7);
  TestLayer layer = dynamic(n, k, LS_DTYPE_I8, codes);
  driver.configure({{"quant_type", "W4A4_DYNAMIC"}});
  EXPECT_EQ(driver.plan(layer).kernel, "int4_channel_int4_token");
  const auto x = activations(m, k);
  const auto y = product_of(layer, x, m);
  const auto scales = scales_of(n);
  for (uint64_t i = 0; i < m; ++i) {
    float amax = 0;
    for (uint64_t c = 0; c < k; ++c) amax = std::max(amax, std::abs(x[i * k + c]));
    for (uint64_t j = 0; j < n; ++j) {
      int32_t sum = 0;
      for (uint64_t c = 0; c < k; ++c) {
        sum +=
            static_cast<int32_t>(std::nearbyint(x[i * k + c] * (7.0f / amax))) * codes[j * k + c];
      }
      EXPECT_EQ(y[i * n + j], amax / 7.0f * (scales[j] * static_cast<float>(sum)));
    }
  }
}

TEST_F(MsModelSlim, Float8IsCodeTimesRowScale) {
  const uint64_t n = 4, k = 32;
  auto codes = codes_of(n * k);
  for (int8_t& code : codes) code = (code & 0x7f) == 0x7f ? 1 : code;
  TestLayer layer = dynamic(n, k, LS_DTYPE_F8_E4M3, codes);
  const auto w = weight_of(layer, "WFP8AFP8_DYNAMIC");
  const auto scales = scales_of(n);
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(w[i], common::e4m3_decode(static_cast<uint8_t>(codes[i])) * scales[i / k]) << i;
  }
}

/// K = 512; `values`: e2m1 values as e4m3 instead of packed codes; wrapped beside a mul_scale or
/// not.
TestLayer dual_layer(bool values, bool wrapped) {
  const uint64_t n = 4, k = 512;
  Random random(4);
  std::vector<uint8_t> packed(n * k / 2), wide(n * k), scales(n * k / 32);
  for (uint8_t& pair : packed) pair = static_cast<uint8_t>(random.bits());
  for (uint64_t i = 0; i < wide.size(); ++i) {
    wide[i] = common::e4m3_encode(common::e2m1_decode(packed[i / 2] >> (i % 2 * 4) & 15));
  }
  for (uint8_t& scale : scales) scale = static_cast<uint8_t>(120 + random.bits() % 8);
  TestLayer out = empty(n, k);
  const std::string below = wrapped ? "linear." : "";
  if (values) {
    out.tensor(below + "weight", LS_DTYPE_F8_E4M3, {n, k}, wide);
  } else {
    out.tensor(below + "weight", LS_DTYPE_U8, {n, k / 2}, packed);
  }
  out.tensor(below + "weight_scale", LS_DTYPE_U8, {n, k / 32}, scales);
  out.tensor(below + "weight_dual_scale", LS_DTYPE_F32, {n, 1, 1}, scales_of(n));
  if (wrapped) out.tensor("div.mul_scale", LS_DTYPE_F32, {k}, std::vector<float>(k, 2.0f));
  return out;
}

TEST_F(MsModelSlim, DualScaleWeightsArePackedOrValues) {
  TestLayer packed = dual_layer(false, false), values = dual_layer(true, false);
  const auto w = weight_of(packed, "W4A4_MXFP4_DUALSCALE");
  EXPECT_EQ(w, weight_of(values, "W4A4_MXFP4_DUALSCALE"));
  const auto x = activations(2, packed.in);
  EXPECT_EQ(product_of(packed, x, 2), product_of(values, x, 2));
}

TEST_F(MsModelSlim, SmoothedWeightsStandBelowLinear) {
  TestLayer plain = dual_layer(false, false), wrapped = dual_layer(false, true);
  auto w = weight_of(plain, "W4A4_MXFP4_DUALSCALE");
  for (float& value : w) value *= 2.0f;
  EXPECT_EQ(weight_of(wrapped, "W4A4_MXFP4_DUALSCALE"), w);
  const auto x = activations(2, plain.in);
  auto doubled = x;
  for (float& value : doubled) value *= 2.0f;
  EXPECT_EQ(product_of(wrapped, x, 2), product_of(plain, doubled, 2));
}

TEST_F(MsModelSlim, SmoothedInt8Too) {
  const auto codes = codes_of(2 * 32);
  TestLayer plain = dynamic(2, 32, LS_DTYPE_I8, codes), wrapped = empty(2, 32);
  wrapped.tensor("linear.weight", LS_DTYPE_I8, {2, 32}, codes);
  wrapped.tensor("linear.weight_scale", LS_DTYPE_F32, {2, 1}, scales_of(2));
  wrapped.tensor("div.mul_scale", LS_DTYPE_F32, {32}, std::vector<float>(32, 4.0f));
  auto w = weight_of(plain, "W8A8_DYNAMIC");
  for (float& value : w) value *= 4.0f;
  EXPECT_EQ(weight_of(wrapped, "W8A8_DYNAMIC"), w);
}

// ---- decoding and saving -----------------------------------------------------------------------

TEST_F(MsModelSlim, DecodedStaticInt8LeavesItsBiasToTheHost) {
  const Static given;
  TestLayer quantized = given.layer(), plain = given.layer();
  plain.want = LS_WANT_DECODE;
  plain.load_dtype = LS_DTYPE_F32;
  const auto w = weight_of(quantized, "W8A8");
  EXPECT_EQ(weight_of(plain, "W8A8"), w);
  const Answer answer = driver.plan(plain);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_DECODE});
  EXPECT_NE(answer.work.bias, uint32_t{LS_BIAS_BY_METHOD});
  EXPECT_EQ(answer.unused.at(4), "the bias stands beside it");
}

TEST_F(MsModelSlim, DecodingLosesNoBias) {
  Static given;
  for (uint64_t j = 0; j < given.n; ++j) {
    int32_t sum = 0;
    for (uint64_t c = 0; c < given.k; ++c) sum += given.codes[j * given.k + c];
    given.quant_bias[j] = -7 * sum;
  }
  const auto layer_without_bias = [&] {
    TestLayer out = given.layer();
    out.sources().pop_back();
    out.want = LS_WANT_DECODE;
    return out;
  };
  TestLayer layer = layer_without_bias();
  driver.configure({{"quant_type", "W8A8"}});
  driver.produce(layer);
  given.quant_bias[2] += 5;
  EXPECT_EQ(load_refusal(layer_without_bias(), "W8A8"),
            "weight can't stand alone: blocks.0.linear.weight: found its bias in row 2 of "
            "\"quant_bias\" alone, expected \"bias\" too");
}

TEST_F(MsModelSlim, SavedTensorsAreTheFiles) {
  const Static given;
  TestLayer layer = given.layer();
  driver.configure({{"quant_type", "W8A8"}});
  Produced produced = driver.produce(layer);
  std::map<std::string, std::vector<char>> saved;
  for (const auto& one : driver.save(layer, produced)) saved[one.name] = one.bytes;
  for (const auto& source : layer.sources()) {
    if (source.name == "bias") continue;
    EXPECT_EQ(saved.at(source.name), source.bytes) << source.name;
  }
}

// ---- refusals ----------------------------------------------------------------------------------

TEST_F(MsModelSlim, WhatStaticInt8NeedsIsChecked) {
  struct Case {
    std::function<void(Static&)> spoil;
    const char* text;
  };
  const Case cases[] = {
      {[](Static& s) { s.input_scale[0] = 0.0f; },
       "scale rejected: blocks.0.linear.input_scale: found 0 at index 0, expected finite and more "
       "than 0"},
      {[](Static& s) { s.input_scale[0] = kNan; },
       "scale rejected: blocks.0.linear.input_scale: found NaN at index 0, expected finite and "
       "more than 0"},
      {[](Static& s) { s.input_offset[0] = 128.0f; },
       "offset rejected: blocks.0.linear.input_offset: found a value out of range at index 0, "
       "expected -128 to 127"},
      {[](Static& s) { s.input_offset[0] = -129.0f; },
       "offset rejected: blocks.0.linear.input_offset: found a value out of range at index 0, "
       "expected -128 to 127"},
      {[](Static& s) { s.deq_scale[3] = kNan; },
       "scale rejected: blocks.0.linear.deq_scale: found NaN at index 3, expected finite and at "
       "least 0"},
      {[](Static& s) { s.deq_scale[3] = -1.0f; },
       "scale rejected: blocks.0.linear.deq_scale: found a negative value at index 3, expected "
       "finite and at least 0"},
      {[](Static& s) { s.deq_scale[1] = INFINITY; },
       "scale rejected: blocks.0.linear.deq_scale: found infinity at index 1, expected finite and "
       "at least 0"},
      {[](Static& s) { s.quant_bias[5] = std::numeric_limits<int32_t>::min(); },
       "constant rejected: blocks.0.linear.quant_bias: found -2147483648 at index 5, expected at "
       "most 2146828287 either way (int32 sums)"},
      {[](Static& s) { s.deq_scale.pop_back(); },
       "scale has a wrong shape: blocks.0.linear.deq_scale: found [5], expected [6, 1] for a "
       "weight of [6, 40]"},
      {[](Static& s) { s.quant_bias.pop_back(); },
       "constant has a wrong shape: blocks.0.linear.quant_bias: found [5], expected [6] for a "
       "weight of [6, 40]"},
      {[](Static& s) { s.input_offset.push_back(0.0f); },
       "scale has a wrong shape: blocks.0.linear.input_offset: found [2], expected one value"},
  };
  for (const Case& one : cases) {
    Static given;
    one.spoil(given);
    TestLayer layer = given.layer();
    for (auto& source : layer.sources()) {
      if (source.shape.size() == 1) source.shape[0] = source.bytes.size() / 4;
    }
    EXPECT_EQ(load_refusal(std::move(layer), "W8A8"), one.text);
  }
}

TEST_F(MsModelSlim, MissingTensorsAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"deq_scale", "weight has no scale"},
      {"input_scale", "activations have no scale"},
      {"input_offset", "activations have no offset"},
      {"quant_bias", "sums have no constant"},
  };
  for (const auto& [name, what] : cases) {
    TestLayer layer = Static().layer();
    std::erase_if(layer.sources(), [&](const auto& source) { return source.name == name; });
    const std::string text = load_refusal(std::move(layer), "W8A8");
    const std::string start = std::string(what) + ": blocks.0.linear.weight: found only ";
    EXPECT_EQ(text.substr(0, start.size()), start);
    const std::string end = std::string(", expected \"") + name + "\"";
    EXPECT_EQ(text.substr(text.size() - end.size()), end);
  }
}

TEST_F(MsModelSlim, WrongDtypesAreNamed) {
  const auto codes = codes_of(2 * 32);
  TestLayer floats = dynamic(2, 32, LS_DTYPE_F8_E4M3, std::vector<int8_t>(64, 1));
  EXPECT_EQ(load_refusal(std::move(floats), "W8A8_DYNAMIC"),
            "weight of another type: blocks.0.linear.weight: found F8_E4M3, expected I8 "
            "(W8A8_DYNAMIC)");
  EXPECT_EQ(load_refusal(dynamic(2, 32, LS_DTYPE_I8, codes), "W8A8_MXFP8"),
            "weight of another type: blocks.0.linear.weight: found I8, expected F8_E4M3 "
            "(W8A8_MXFP8)");
  TestLayer integers = empty(2, 32);
  integers.tensor("weight", LS_DTYPE_I8, {2, 32}, codes);
  integers.tensor("weight_scale", LS_DTYPE_I32, {2, 1}, std::vector<int32_t>(2, 1));
  EXPECT_EQ(load_refusal(std::move(integers), "W8A8_DYNAMIC"),
            "scale has a wrong dtype: blocks.0.linear.weight_scale: found I32, expected F32, BF16 "
            "or F16");
  TestLayer wide = Static().layer();
  wide.sources()[1].dtype = LS_DTYPE_I64;
  wide.sources()[1].bytes.assign(6 * 8, 1);
  EXPECT_EQ(load_refusal(std::move(wide), "W8A8"),
            "scale rejected: blocks.0.linear.deq_scale: found more than 32 bits at index 0, "
            "expected the bits of a float32");
}

TEST_F(MsModelSlim, SymmetricCodesHaveNoOffset) {
  EXPECT_EQ(load_refusal(dynamic(2, 32, LS_DTYPE_I8, codes_of(64), 0.5f), "W8A8_DYNAMIC"),
            "zero point rejected: blocks.0.linear.weight_offset: found another value at index 0, "
            "expected 0");
  EXPECT_EQ(load_refusal(dynamic(2, 32, LS_DTYPE_I8, codes_of(64), kNan), "W8A16"),
            "zero point rejected: blocks.0.linear.weight_offset: found NaN at index 0, expected "
            "finite");
}

TEST_F(MsModelSlim, StaticInt8MayHaveTheWeightsScaleToo) {
  TestLayer layer = Static().layer();
  layer.tensor("weight_scale", LS_DTYPE_F32, {6, 1}, scales_of(6));
  layer.tensor("weight_offset", LS_DTYPE_I8, {6, 1}, std::vector<int8_t>(6, 0));
  TestLayer alone = Static().layer();
  EXPECT_EQ(weight_of(layer, "W8A8"), weight_of(alone, "W8A8"));
  EXPECT_EQ(driver.plan(layer).unused.at(6), "deq_scale holds it");
  layer.sources().back().bytes[3] = 1;
  EXPECT_EQ(load_refusal(std::move(layer), "W8A8"),
            "zero point rejected: blocks.0.linear.weight_offset: found another value at index 3, "
            "expected 0");
}

TEST_F(MsModelSlim, FourBitCodesStayInRange) {
  std::vector<int8_t> codes(64, 7);
  codes[40] = 8;
  for (const char* type : {"W4A4_DYNAMIC", "W4A8_DYNAMIC"}) {
    EXPECT_EQ(load_refusal(dynamic(2, 32, LS_DTYPE_I8, codes), type),
              "code rejected: blocks.0.linear.weight: found 8 at row 1, expected -8 to 7");
  }
}

TEST_F(MsModelSlim, ScalesOfTwoLevelsAreNotRead) {
  TestLayer layer = dynamic(2, 32, LS_DTYPE_I8, codes_of(64, -8, 7));
  layer.tensor("weight_scale_second", LS_DTYPE_F32, {2, 1}, scales_of(2));
  EXPECT_EQ(load_refusal(std::move(layer), "W4A8_DYNAMIC"),
            "scales of two levels are not read: blocks.0.linear.weight_scale_second: found it "
            "beside \"weight_scale\", expected one level");
}

TEST_F(MsModelSlim, PlainWeightsAreKeptOrNotQuantizedHere) {
  TestLayer layer = empty(2, 32);
  layer.tensor("weight", LS_DTYPE_F32, {2, 32}, std::vector<float>(64, 1.0f));
  driver.configure({{"quant_type", "W8A8"}, {"is_checkpoint_msmodelslim_serialized", true}});
  EXPECT_EQ(driver.plan(layer).work.verdict, uint32_t{LS_VERDICT_KEEP});
  driver.configure({{"quant_type", "W8A8"}});
  Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
  EXPECT_EQ(answer.reason,
            "found plain weights, expected W8A8: msModelSlim checkpoints are read, not made");
  layer.tensor("weight_scale", LS_DTYPE_F32, {2, 1}, scales_of(2));
  driver.configure({{"is_checkpoint_msmodelslim_serialized", true}});
  EXPECT_EQ(any_refusal([&] { driver.plan(layer); }),
            "weight is plain beside its scale: blocks.0.linear.weight: found F32 beside "
            "\"weight_scale\", expected codes");
}

// ---- fused layers ------------------------------------------------------------------------------

TEST_F(MsModelSlim, FusedPartsThatDifferAreTreatedApart) {
  TestLayer layer;
  layer.out = 8;
  layer.in = 32;
  layer.part("q", 0, 4);
  layer.part("k", 4, 4);
  for (uint32_t part : {0u, 1u}) {
    layer.tensor("weight", LS_DTYPE_I8, {4, 32}, codes_of(128), part);
    layer.tensor("deq_scale", LS_DTYPE_F32, {4}, scales_of(4), part);
    layer.tensor("input_scale", LS_DTYPE_F32, {1}, std::vector<float>{0.5f}, part);
    layer.tensor("input_offset", LS_DTYPE_F32, {1}, std::vector<float>{3.0f}, part);
    layer.tensor("quant_bias", LS_DTYPE_I32, {4}, std::vector<int32_t>(4, 9), part);
  }
  layer.show_values();
  driver.configure({{"quant_type", "W8A8"}});
  EXPECT_EQ(driver.plan(layer).work.verdict, uint32_t{LS_VERDICT_QUANTIZE});
  driver.configure({{"quant_description", {{"W8A8", {"q"}}, {"W8A8_DYNAMIC", {"k"}}}}});
  Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_SPLIT});
  EXPECT_EQ(answer.reason, "parts have different types: W8A8 and W8A8_DYNAMIC");
  const float other = 4.0f;
  std::memcpy(layer.sources()[8].bytes.data(), &other, sizeof other);
  driver.configure({{"quant_type", "W8A8"}});
  answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_SPLIT});
  EXPECT_EQ(answer.reason, "parts have different \"input_offset\"");
}

TEST_F(MsModelSlim, FusedStaticPartsKeepTheirScalesAndConstants) {
  const uint64_t m = 3, k = 32;
  const auto x = activations(m, k);
  TestLayer fused;
  fused.out = 8;
  fused.in = k;
  std::vector<std::vector<float>> alone;
  driver.configure({{"quant_type", "W8A8"}});
  for (uint32_t part : {0u, 1u}) {
    Static given;
    given.n = 4;
    given.k = k;
    given.codes = codes_of(128 + part);
    given.codes.resize(128);
    given.deq_scale = {0.1f, 0.2f, 0.3f, 0.4f + static_cast<float>(part)};
    given.quant_bias = {1, -2, 3, 400 * static_cast<int32_t>(part)};
    TestLayer own = given.layer();
    alone.push_back(product_of(own, x, m));
    fused.part("p" + std::to_string(part), 4 * part, 4);
    for (const auto& source : own.sources()) {
      fused.tensor(source.name, source.dtype, source.shape, source.bytes, part);
    }
  }
  fused.show_values();
  const auto y = product_of(fused, x, m);
  for (uint64_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(y[i], alone[i % 8 / 4][i / 8 * 4 + i % 4]) << i;
  }
}

}  // namespace
}  // namespace loadstone::msmodelslim
