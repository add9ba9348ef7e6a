// The plugin's rules: names of algorithms, layouts, what it refuses and in which words.
#include <cmath>
#include <cstring>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/testing/one_layer.hpp"

namespace loadstone::modelopt {
namespace {

using namespace common::testing;

std::vector<uint8_t> codes_of(uint64_t count, uint8_t forbidden_low) {
  Random random(7);
  std::vector<uint8_t> out(count);
  for (uint8_t& code : out) {
    code = static_cast<uint8_t>(random.bits());
    if ((code & 0x7f) == forbidden_low) code = 1;
  }
  return out;
}

TestLayer fp8(uint64_t n, uint64_t k, const std::vector<float>& scale) {
  TestLayer out = empty(n, k);
  out.tensor("weight", LS_DTYPE_F8_E4M3, {n, k}, codes_of(n * k, 0x7f));
  if (!scale.empty()) out.tensor("weight_scale", LS_DTYPE_F32, {}, scale);
  out.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.5f});
  return out;
}

struct Nvfp4Layer {
  std::vector<uint8_t> codes, scales;
  TestLayer layer;
};

Nvfp4Layer nvfp4(uint64_t n, uint64_t k) {
  Nvfp4Layer out{codes_of(n * k / 2, 0x80), std::vector<uint8_t>(n * k / 16), empty(n, k)};
  for (size_t i = 0; i < out.scales.size(); ++i) {
    out.scales[i] = static_cast<uint8_t>(0x30 + i % 9);
  }
  out.layer.tensor("weight", LS_DTYPE_U8, {n, k / 2}, out.codes);
  out.layer.tensor("weight_scale", LS_DTYPE_F8_E4M3, {n, k / 16}, out.scales);
  out.layer.tensor("weight_scale_2", LS_DTYPE_F32, {}, std::vector<float>{0.25f});
  out.layer.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.5f});
  return out;
}

class ModelOpt : public ::testing::Test {
 protected:
  std::string load_refusal(TestLayer& layer) {
    return any_refusal([&] { driver.produce(layer); });
  }
  Driver driver{"modelopt"};
};

TEST_F(ModelOpt, AlgorithmsAreNamedAsTheToolNamesThem) {
  EXPECT_EQ(any_refusal([&] {
              driver.configure({{"quant_algo", "FP9"}});
            }),
            "quant_algo rejected: found \"FP9\", expected FP8, FP8_PER_CHANNEL_PER_TOKEN, "
            "FP8_PB_WO, FP8_BLOCK_SCALES, NVFP4, NVFP4_AWQ, W4A16_NVFP4, W4A8_NVFP4_FP8, MXFP8, "
            "MXFP4, W4A8_MXFP4_FP8, W8A8_SQ_PER_CHANNEL, W8A16, W4A16_AWQ, INT4_AWQ, W4A8_AWQ or "
            "MIXED_PRECISION");
  EXPECT_EQ(any_refusal([&] {
              driver.configure({{"quant_algo", "MIXED_PRECISION"}});
            }),
            "quantized_layers rejected: found nothing, expected a map of layers to {quant_algo: "
            "…}, as quant_algo MIXED_PRECISION needs it");
  driver.configure({{"quant_algo", "fp8"}});
}

TEST_F(ModelOpt, Fp8IsCodeTimesScale) {
  driver.configure({{"quant_algo", "FP8"}});
  TestLayer layer = fp8(4, 32, {0.25f});
  Produced produced = driver.produce(layer);
  const auto codes = produced.named("weight").as<uint8_t>();
  const auto w = driver.dequantize(layer, produced, 0, 4, 32);
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(w[i], common::e4m3_decode(codes[i]) * 0.25f) << i;
  }
}

TEST_F(ModelOpt, Nvfp4IsCodeTimesGroupScaleTimesGlobalScale) {
  driver.configure({{"quant_algo", "NVFP4"}});
  Nvfp4Layer given = nvfp4(4, 64);
  Produced produced = driver.produce(given.layer);
  const auto w = driver.dequantize(given.layer, produced, 0, 4, 64);
  for (size_t i = 0; i < w.size(); ++i) {
    const uint8_t pair = given.codes[i / 2];
    const float code = common::e2m1_decode(i % 2 == 0 ? pair & 15 : pair >> 4);
    EXPECT_EQ(w[i], code * (common::e4m3_decode(given.scales[i / 16]) * 0.25f)) << i;
  }
}

TEST_F(ModelOpt, S29_ScalesMustBeThereAndFinite) {
  driver.configure({{"quant_algo", "FP8"}});
  TestLayer none = fp8(4, 32, {});
  EXPECT_EQ(load_refusal(none),
            "weight has no scale: blocks.0.linear.weight: found only \"input_scale\", expected "
            "\"weight_scale\"");
  TestLayer nan = fp8(4, 32, {std::numeric_limits<float>::quiet_NaN()});
  EXPECT_EQ(load_refusal(nan),
            "scale rejected: blocks.0.linear.weight_scale: found NaN at index 0, expected finite "
            "and at least 0");
  TestLayer negative = fp8(4, 32, {-1.0f});
  EXPECT_EQ(load_refusal(negative),
            "scale rejected: blocks.0.linear.weight_scale: found a negative value at index 0, "
            "expected finite and at least 0");
}

TEST_F(ModelOpt, S29_ScalesWhoseProductsLeaveFloat32AreRefusedWithTheirRow) {
  const std::string text = "weight is not finite: blocks.0.linear.weight: row ";
  for (const uint32_t want : {LS_WANT_QUANTIZE, LS_WANT_DECODE}) {
    driver.configure({{"quant_algo", "FP8"}});
    TestLayer tensor = fp8(4, 32, {1e38f});
    std::vector<char>& codes = tensor.sources()[0].bytes;
    std::fill(codes.begin(), codes.end(), '\x44');  // 3: 3e38 is a float32
    tensor.want = want;
    tensor.load_dtype = LS_DTYPE_F32;
    driver.produce(tensor);
    codes[2 * 32 + 5] = '\xc8';  // -4
    EXPECT_EQ(load_refusal(tensor), text + "2");

    driver.configure({{"quant_algo", "NVFP4"}});
    Nvfp4Layer given = nvfp4(4, 64);
    auto& sources = given.layer.sources();
    given.layer.want = want;
    given.layer.load_dtype = LS_DTYPE_F32;
    std::fill(sources[0].bytes.begin(), sources[0].bytes.end(), '\x22');  // 1
    std::fill(sources[1].bytes.begin(), sources[1].bytes.end(), '\x38');  // 1
    const float global = 1e38f;
    std::memcpy(sources[2].bytes.data(), &global, sizeof global);
    driver.produce(given.layer);
    sources[1].bytes.back() = '\x48';  // 4
    EXPECT_EQ(load_refusal(given.layer), text + "3");
  }
}

TEST_F(ModelOpt, S28_AWeightOfAnotherAlgorithmIsNamed) {
  driver.configure({{"quant_algo", "NVFP4"}});
  TestLayer layer = fp8(4, 32, {0.25f});
  EXPECT_EQ(
      load_refusal(layer),
      "weight of another algorithm: blocks.0.linear.weight: found F8_E4M3, expected U8 (NVFP4)");
}

TEST_F(ModelOpt, PlainWeightsAreNotQuantizedHere) {
  driver.configure({{"quant_algo", "FP8"}});
  TestLayer layer = empty(4, 32);
  layer.tensor("weight", LS_DTYPE_F32, {4, 32}, std::vector<float>(128, 1.0f));
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
  EXPECT_EQ(answer.reason,
            "found plain weights, expected FP8: ModelOpt checkpoints are read, not made");
}

TestLayer fused(const std::string& path, const std::vector<std::string>& parts) {
  TestLayer out;
  out.path = path;
  out.out = 4 * parts.size();
  out.in = 32;
  for (size_t i = 0; i < parts.size(); ++i) out.part(parts[i], 4 * i, 4);
  return out;
}

TEST_F(ModelOpt, ExcludedModulesEndAtDots) {
  struct Case {
    const char *entry, *path;
    bool excluded;
  };
  const Case cases[] = {
      {"proj_out", "proj_out", true},
      {"proj_out", "single_blocks.0.proj_out", false},
      {"blocks.1", "blocks.1.attn.to_out.0", true},
      {"blocks.1", "blocks.10.attn.to_out.0", false},
      {"blocks.1*", "blocks.1.attn.to_out.0", true},
      {"blocks.1*", "blocks.10.attn.to_out.0", false},
      {"img_mlp", "blocks.0.img_mlp.net.2", false},
      {"*img_mlp*", "blocks.0.img_mlp.net.2", true},
      {"*mlp*", "blocks.0.img_mlp.net.2", false},
      {"*.net.2", "blocks.0.img_mlp.net.2", true},
      {"re:.*mlp", "blocks.0.mlp", false},
  };
  for (const Case& one : cases) {
    driver.configure({{"quant_algo", "FP8"}, {"ignore", Json::array({one.entry})}});
    TestLayer layer = fused(one.path, {one.path});
    EXPECT_EQ(driver.ignored(layer), one.excluded ? one.entry : "") << one.entry << one.path;
  }
}

TEST_F(ModelOpt, ExcludedPartsMustBeAllOfAFusedLayer) {
  TestLayer qkv = fused("attn.to_qkv", {"attn.to_q", "attn.to_k", "attn.to_v"});
  driver.configure({{"quant_algo", "FP8"}, {"exclude_modules", Json::array({"attn.to_q"})}});
  EXPECT_EQ(any_refusal([&] { driver.ignored(qkv); }),
            "exclude_modules names part of a fused layer: found \"attn.to_q\", expected "
            "\"attn.to_k\" and \"attn.to_v\" too");
  driver.configure({{"quant_algo", "FP8"}, {"exclude_modules", {"*to_q", "*to_k", "*to_v"}}});
  EXPECT_EQ(driver.ignored(qkv), "*to_q");
}

TEST_F(ModelOpt, QuantizedLayersCoverAFusedLayerAlikeOrNotAtAll) {
  TestLayer qkv = fused("attn.to_qkv", {"attn.to_q", "attn.to_k", "attn.to_v"});
  const Json fp8 = {{"quant_algo", "FP8"}};
  const auto with = [&](const Json& layers) {
    driver.configure({{"quant_algo", "MIXED_PRECISION"}, {"quantized_layers", layers}});
  };
  with({{"mlp", fp8}});
  EXPECT_EQ(driver.ignored(qkv), "quantized_layers");
  with({{"attn", fp8}});
  EXPECT_EQ(driver.ignored(qkv), "");
  with({{"attn.to_q", fp8}});
  EXPECT_EQ(any_refusal([&] { driver.ignored(qkv); }),
            "quantized_layers rejected: found \"attn.to_q\", expected \"attn.to_k\" and "
            "\"attn.to_v\" too");
  with({{"attn.to_q", fp8}, {"attn.to_k", {{"quant_algo", "NVFP4"}}}, {"attn.to_v", fp8}});
  EXPECT_EQ(any_refusal([&] { driver.ignored(qkv); }),
            "quantized_layers rejected: found different settings for \"attn.to_q\" and "
            "\"attn.to_k\", expected equal ones, since attn.to_qkv fuses them");
}

}  // namespace
}  // namespace loadstone::modelopt
