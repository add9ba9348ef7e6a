// The plugin's rules: what it refuses and in which words, what it keeps, decodes and saves.
#include <cmath>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/mx.hpp"
#include "common/testing/online.hpp"

namespace loadstone::mxfp8 {
namespace {

using namespace common::testing;

const Json kSerialized = {{"is_checkpoint_mxfp8_serialized", true}};

TestLayer stored(uint64_t n, uint64_t k) {
  TestLayer out = empty(n, k);
  Random random(5);
  std::vector<uint8_t> codes(n * k), scales(n * common::mx_groups(k));
  for (uint8_t& code : codes) {
    code = static_cast<uint8_t>(random.bits());
    if ((code & 0x7f) == 0x7f) code = 1;
  }
  for (uint8_t& scale : scales) scale = static_cast<uint8_t>(110 + random.bits() % 20);
  out.tensor("weight", LS_DTYPE_F8_E4M3, {n, k}, codes);
  out.tensor("weight_scale", LS_DTYPE_U8, {n, common::mx_groups(k)}, scales);
  return out;
}

class Mxfp8 : public ::testing::Test {
 protected:
  std::string load_refusal(TestLayer& layer) {
    return refusal([&] { driver.produce(layer); });
  }
  Driver driver{"mxfp8"};
};

TEST_F(Mxfp8, KeepsFloatsOfASerializedCheckpoint) {
  driver.configure(kSerialized);
  TestLayer layer = floats(4, 40);
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_KEEP});
  EXPECT_EQ(answer.reason, "stored as F32 in a checkpoint of serialized mxfp8");
}

TEST_F(Mxfp8, ShortLastGroupsHaveTheirOwnScale) {
  driver.configure(Json::object());
  TestLayer layer = floats(5, 33);
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.named("weight_scale").nbytes(), 10u);
  const auto w = driver.dequantize(layer, produced, 0, 5, 33);
  const auto codes = produced.named("weight").as<uint8_t>();
  const auto scales = produced.named("weight_scale").as<uint8_t>();
  for (uint64_t row = 0; row < 5; ++row) {
    EXPECT_EQ(w[row * 33 + 32],
              common::e4m3_decode(codes[row * 33 + 32]) * common::e8m0_decode(scales[row * 2 + 1]));
  }
}

TEST_F(Mxfp8, ReadsValuesHeldAsBf16AndRefusesOthers) {
  driver.configure(kSerialized);
  TestLayer codes = stored(4, 40);
  const auto bytes = codes.sources()[0].bytes;
  std::vector<uint16_t> values(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    values[i] = common::bf16_encode(common::e4m3_decode(static_cast<uint8_t>(bytes[i])));
  }
  TestLayer held = empty(4, 40);
  held.tensor("weight", LS_DTYPE_BF16, {4, 40}, values);
  held.tensor("weight_scale", LS_DTYPE_U8, {4, 2}, codes.sources()[1].bytes);
  Produced produced = driver.produce(held);
  EXPECT_EQ(produced.named("weight").as<char>(), bytes);
  values[2 * 40 + 3] = common::bf16_encode(1.0625f);
  TestLayer between = empty(4, 40);
  between.tensor("weight", LS_DTYPE_BF16, {4, 40}, values);
  between.tensor("weight_scale", LS_DTYPE_U8, {4, 2}, codes.sources()[1].bytes);
  EXPECT_EQ(load_refusal(between),
            "weight rejected: blocks.0.linear.weight: found a value that is no e4m3 number in row "
            "2, column 3");
}

TEST_F(Mxfp8, S27_MissingScaleNamesWhatIsExpected) {
  driver.configure(kSerialized);
  TestLayer layer = stored(4, 40);
  layer.sources().pop_back();
  EXPECT_EQ(load_refusal(layer),
            "mxfp8 weight has no scale: blocks.0.linear.weight: found nothing beside it, expected "
            "\"weight_scale\" as U8 [4, 2]");
}

TEST_F(Mxfp8, ScalesThatLeaveFloat32OverACodeAreRefused) {
  driver.configure(kSerialized);
  TestLayer layer = stored(4, 40);
  layer.sources()[1].bytes[2 * 2 + 1] = '\xf7';    // 2^120
  layer.sources()[0].bytes[2 * 40 + 33] = '\x77';  // 240: 1.875·2^127
  for (uint64_t i = 32; i < 40; ++i) {
    if (i != 33) layer.sources()[0].bytes[2 * 40 + i] = 0;
  }
  driver.produce(layer);                           // the largest number that fits
  layer.sources()[0].bytes[2 * 40 + 33] = '\x78';  // 256
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 2");
  layer.want = LS_WANT_DECODE;
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 2");
}

TEST_F(Mxfp8, S28_ScaleOfAWrongShapeOrDtypeShowsBoth) {
  driver.configure(kSerialized);
  TestLayer layer = stored(4, 40);
  layer.sources()[1].shape = {2, 4};
  EXPECT_EQ(load_refusal(layer),
            "scale has a wrong shape: blocks.0.linear.weight_scale: found [2, 4], expected [4, 2] "
            "for a weight of [4, 40]");
  layer.sources()[1].shape = {4, 2};
  layer.sources()[1].dtype = LS_DTYPE_I8;
  EXPECT_EQ(load_refusal(layer),
            "scale has a wrong dtype: blocks.0.linear.weight_scale: found I8, expected U8 or "
            "F8_E8M0");
}

TEST_F(Mxfp8, S29_NanScalesAndCodesAreRefused) {
  driver.configure(kSerialized);
  TestLayer scale = stored(4, 40);
  scale.sources()[1].bytes[2 * 2 + 1] = '\xff';
  EXPECT_EQ(load_refusal(scale),
            "scale rejected: blocks.0.linear.weight_scale: found 255 (NaN) in row 2, column 1, "
            "expected at most 254");
  scale.want = LS_WANT_DECODE;
  EXPECT_NE(load_refusal(scale).find("found 255 (NaN) in row 2"), std::string::npos);
  TestLayer code = stored(4, 40);
  code.sources()[0].bytes[3 * 40] = '\x7f';
  EXPECT_EQ(load_refusal(code), "weight is not finite: blocks.0.linear.weight: row 3");
  code.want = LS_WANT_DECODE;
  EXPECT_EQ(load_refusal(code), "weight is not finite: blocks.0.linear.weight: row 3");
}

TEST_F(Mxfp8, S29_ScaleByteZeroIsLegal) {
  driver.configure(kSerialized);
  TestLayer layer = empty(1, 32);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {1, 32}, std::vector<uint8_t>(32, 0x38));
  layer.tensor("weight_scale", LS_DTYPE_U8, {1, 1}, std::vector<uint8_t>{0});
  Produced produced = driver.produce(layer);
  EXPECT_EQ(driver.dequantize(layer, produced, 0, 1, 32)[0], 0x1p-127f) << "not flushed to zero";
}

TEST_F(Mxfp8, S33_WeightsThatAreNotFiniteAreRefused) {
  driver.configure(Json::object());
  auto values = random_values(5 * 40);
  values[3 * 40 + 35] = INFINITY;
  TestLayer layer = empty(5, 40);
  layer.tensor("weight", LS_DTYPE_F32, {5, 40}, values);
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 3, column 35");
}

TEST_F(Mxfp8, DecodesToTheLoadDtype) {
  driver.configure(kSerialized);
  TestLayer layer = stored(3, 40);
  Produced kept = driver.produce(layer);
  const auto wanted = driver.dequantize(layer, kept, 0, 3, 40);
  layer.want = LS_WANT_DECODE;
  for (const uint32_t dtype : {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16}) {
    layer.load_dtype = dtype;
    Produced decoded = driver.produce(layer, 9);
    std::vector<char> narrowed(wanted.size() * common::float_nbytes(dtype));
    common::narrow(dtype, wanted.data(), narrowed.data(), wanted.size());
    EXPECT_EQ(decoded.named("weight").as<char>(), narrowed);
  }
}

TEST_F(Mxfp8, WhatIsSavedLoadsToTheSameBytesPartByPart) {
  driver.configure(Json::object());
  const auto shell = [] {
    TestLayer layer;
    layer.out = 7;
    layer.in = 40;
    layer.part("q", 0, 4);
    layer.part("k", 4, 3);
    return layer;
  };
  TestLayer layer = shell(), again = shell();
  layer.tensor("weight", LS_DTYPE_F32, {4, 40}, random_values(160, 1), 0);
  layer.tensor("weight", LS_DTYPE_F32, {3, 40}, random_values(120, 2), 1);
  Produced produced = driver.produce(layer);
  for (const Driver::Saved& one : driver.save(layer, produced)) {
    const std::vector<uint64_t> shape(one.shape.shape, one.shape.shape + one.shape.rank);
    again.tensor(one.name, one.shape.dtype, shape, one.bytes, one.part);
  }
  driver.configure(kSerialized);
  Produced reloaded = driver.produce(again);
  EXPECT_EQ(reloaded.named("weight").as<char>(), produced.named("weight").as<char>());
  EXPECT_EQ(reloaded.named("weight_scale").as<char>(), produced.named("weight_scale").as<char>());
}

TEST_F(Mxfp8, ExpertsAreMultipliedByTheirOwnMatrix) {
  driver.configure(Json::object());
  expect_experts_by_their_own_matrix(driver);
}

TEST_F(Mxfp8, NonFiniteActivationsNeverGiveASilentNumber) {
  driver.configure(Json::object());
  expect_non_finite_activations_show(driver, 64);
}

TEST_F(Mxfp8, ReadsAutoRoundScopes) {
  const Declared declared = driver.read_declaration(
      {{"quant_method", "auto-round"},
       {"data_type", "mx_fp"},
       {"bits", 8},
       {"block_name_to_quantize", "model.layers, lm"},
       {"extra_config",
        {{"model.layers.0.v", {{"bits", 16}}}, {"model.layers.0.q", {{"bits", 8}}}}}},
      1);
  EXPECT_EQ(declared.value("is_checkpoint_mxfp8_serialized"), true);
  ASSERT_EQ(declared.scopes.size(), 3u);
  EXPECT_EQ(declared.scopes[0].pattern, "model.layers");
  EXPECT_EQ(declared.scopes[1].pattern, "lm");
  EXPECT_FALSE(declared.scopes[1].keep);
  EXPECT_EQ(declared.scopes[2].pattern, "model.layers.0.v");
  EXPECT_TRUE(declared.scopes[2].keep);
}

}  // namespace
}  // namespace loadstone::mxfp8
