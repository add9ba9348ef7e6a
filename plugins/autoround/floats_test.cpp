// AutoRound's NVFP4: what its tensors mean, its activations, and what is refused.
#include <cmath>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/numerics/nvfp4.hpp"
#include "common/testing/driver.hpp"

namespace loadstone::autoround {
namespace {

using namespace common::testing;

constexpr uint64_t kN = 3, kK = 48;
constexpr float kGlobal = 37.0f, kInputGlobal = 150.0f;

struct Nvfp4 {
  std::vector<uint8_t> codes = std::vector<uint8_t>(kN * kK / 2);
  std::vector<uint8_t> scales = std::vector<uint8_t>(kN * kK / 16);
  TestLayer layer;
};

Nvfp4 nvfp4() {
  Nvfp4 out;
  for (size_t i = 0; i < out.codes.size(); ++i) out.codes[i] = static_cast<uint8_t>(i * 11);
  for (size_t i = 0; i < out.scales.size(); ++i) out.scales[i] = static_cast<uint8_t>(0x31 + i);
  TestLayer& layer = out.layer;
  layer.out = kN;
  layer.in = kK;
  layer.part(layer.path, 0, kN);
  layer.tensor("weight_packed", LS_DTYPE_U8, {kN, kK / 2}, out.codes);
  layer.tensor("weight_scale", LS_DTYPE_F8_E4M3, {kN, kK / 16}, out.scales);
  layer.tensor("weight_global_scale", LS_DTYPE_F32, {1}, std::vector<float>{kGlobal});
  layer.tensor("input_global_scale", LS_DTYPE_F32, {1}, std::vector<float>{kInputGlobal});
  layer.show_values();
  return out;
}

Json fields(int act_bits) {
  return {{"bits", 4},
          {"group_size", 16},
          {"data_type", "nv_fp"},
          {"act_bits", act_bits},
          {"packing_format", "auto_round:llm_compressor"}};
}

class AutoRoundFloats : public ::testing::Test {
 protected:
  std::string refusal_of(TestLayer& layer) {
    try {
      driver.produce(layer);
      return "accepted";
    } catch (const Refusal& refusal) {
      return refusal.what();
    }
  }
  std::string config_refusal(const Json& more) {
    Json all = fields(4);
    all.update(more);
    try {
      driver.configure(all);
      return "accepted";
    } catch (const Refusal& refusal) {
      return refusal.what();
    }
  }
  Driver driver{"autoround"};
};

TEST_F(AutoRoundFloats, TheCodeIsDividedFirst) {
  Nvfp4 given = nvfp4();
  driver.configure(fields(16));
  Produced produced = driver.produce(given.layer);
  EXPECT_EQ(produced.answer.kernel, "nvfp4_group_weight_only");
  const auto weight = driver.dequantize(given.layer, produced, 0, kN, kK);
  for (size_t i = 0; i < weight.size(); ++i) {
    const float code = common::e2m1_decode(given.codes[i / 2] >> (i % 2 * 4) & 15);
    ASSERT_EQ(weight[i], (code * (1.0f / kGlobal)) * common::e4m3_decode(given.scales[i / 16]))
        << i;
  }
}

TEST_F(AutoRoundFloats, ActivationsAreRoundedUnderTheirDivisor) {
  Nvfp4 given = nvfp4();
  driver.configure(fields(4));
  Produced produced = driver.produce(given.layer);
  EXPECT_EQ(produced.answer.kernel, "nvfp4_group_nvfp4");
  const auto weight = driver.dequantize(given.layer, produced, 0, kN, kK);
  Random random(3);
  std::vector<float> x(2 * kK), values(kK);
  for (float& value : x) value = random.uniform();
  Driver::Run run;
  run.x = x.data();
  run.m = 2;
  run.k = kK;
  run.n = kN;
  const auto y = driver.apply(given.layer, produced, run);
  for (uint64_t i = 0; i < run.m; ++i) {
    common::nvfp4_token_values(&x[i * kK], kInputGlobal, values.data(), kK);
    for (uint64_t n = 0; n < kN; ++n) {
      double sum = 0, size = 0;
      for (uint64_t k = 0; k < kK; ++k) {
        const double product = static_cast<double>(values[k]) / kInputGlobal * weight[n * kK + k];
        sum += product;
        size += std::abs(product);
      }
      ASSERT_LE(std::abs(y[i * kN + n] - sum), (kK + 8) * 0x1p-24 * size) << i << " " << n;
    }
  }
}

TEST_F(AutoRoundFloats, ScalesMustBeThereAndFinite) {
  driver.configure(fields(4));
  const auto changed = [&](const std::string& name, const auto& change) {
    Nvfp4 given = nvfp4();
    auto& sources = given.layer.sources();
    for (size_t i = 0; i < sources.size(); ++i) {
      if (sources[i].name != name) continue;
      if (!change(sources[i])) sources.erase(sources.begin() + static_cast<long>(i));
      break;
    }
    return refusal_of(given.layer);
  };
  const auto drop = [](TestLayer::Source&) { return false; };
  const auto nan = [](TestLayer::Source& source) {
    const float value = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(source.bytes.data(), &value, sizeof value);
    return true;
  };
  const std::string at = "blocks.0.linear.";
  EXPECT_EQ(changed("weight_global_scale", drop),
            "weight has no scale: " + at +
                "weight_packed: found only \"weight_scale\" and \"input_global_scale\", expected "
                "\"weight_global_scale\"");
  EXPECT_EQ(changed("input_global_scale", drop),
            "activations have no scale: " + at +
                "weight_packed: found only \"weight_scale\" and \"weight_global_scale\", expected "
                "\"input_global_scale\"");
  EXPECT_EQ(changed("weight_global_scale", nan),
            "scale rejected: " + at +
                "weight_global_scale: found NaN at index 0, expected finite and at least 0");
  EXPECT_EQ(changed("input_global_scale", nan),
            "scale rejected: " + at +
                "input_global_scale: found NaN at index 0, expected finite and more than 0");
  EXPECT_EQ(changed("weight_scale",
                    [](TestLayer::Source& source) {
                      source.dtype = LS_DTYPE_U8;
                      return true;
                    }),
            "scale has a wrong dtype: " + at + "weight_scale: found U8, expected F8_E4M3");
}

TEST_F(AutoRoundFloats, KeptLayersAreStoredPlain) {
  Json all = fields(4);
  all["extra_config"] = {{"linear", {{"bits", 16}}}};
  driver.configure(all);
  Nvfp4 given = nvfp4();
  EXPECT_EQ(refusal_of(given.layer),
            "packed tensors rejected: found \"weight_packed\", expected \"weight\": the "
            "configuration leaves this layer as it was");
  all["is_checkpoint_autoround_serialized"] = true;
  driver.configure(all);
  TestLayer plain;
  plain.out = 2;
  plain.in = 16;
  plain.part("blocks.0.linear", 0, 2);
  plain.tensor("weight", LS_DTYPE_F32, {2, 16}, std::vector<float>(32, 1.0f));
  EXPECT_EQ(driver.plan(plain).work.verdict, uint32_t{LS_VERDICT_KEEP});
}

TEST_F(AutoRoundFloats, HasOneKindOfCodes) {
  EXPECT_EQ(config_refusal({{"act_bits", 8}}),
            "act_bits rejected: found 8, expected 4, or 16 and more, with data_type nv_fp");
  EXPECT_EQ(config_refusal({{"extra_config", {{"a", {{"bits", 8}}}}}}),
            "extra_config.a rejected: found 8 bits in groups of 16, expected 4 bits in groups of "
            "16, or a kept layer, with data_type nv_fp");
}

TEST_F(AutoRoundFloats, TheDeclarationSaysHowActivationsAreRounded) {
  const Json declaration = {{"quant_method", "auto-round"},
                            {"bits", 4},
                            {"group_size", 16},
                            {"data_type", "nv_fp"},
                            {"act_bits", 4},
                            {"act_data_type", "nv_fp4_with_static_gs"},
                            {"packing_format", "auto_round:llm_compressor"}};
  const Declared declared = driver.read_declaration(declaration);
  EXPECT_EQ(declared.value("data_type"), "nv_fp");
  EXPECT_EQ(declared.value("act_bits"), 4);
  EXPECT_NO_THROW(driver.configure(declared.of("blocks.0.linear")));
}

}  // namespace
}  // namespace loadstone::autoround
