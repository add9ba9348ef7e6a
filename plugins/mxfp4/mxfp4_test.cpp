// The plugin's rules: what it refuses and in which words, smoothing, fallbacks and what it saves.
#include <cmath>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/mx.hpp"
#include "common/testing/online.hpp"

namespace loadstone::mxfp4 {
namespace {

using namespace common::testing;

const Json kSerialized = {{"is_checkpoint_mxfp4_serialized", true}};
const Json kDual = {{"is_checkpoint_serialized", true}};

std::vector<uint8_t> random_bytes(uint64_t n, uint32_t seed = 5) {
  Random random(seed);
  std::vector<uint8_t> out(n);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random.bits());
  return out;
}

/// Packed codes, scale bytes, and outer scales of 2 when `dual`.
TestLayer stored(uint64_t n, uint64_t k, bool dual = false) {
  TestLayer out = empty(n, k);
  out.tensor("weight", LS_DTYPE_U8, {n, k / 2}, random_bytes(n * k / 2));
  out.tensor("weight_scale", LS_DTYPE_U8, {n, common::mx_groups(k)},
             std::vector<uint8_t>(n * common::mx_groups(k), 125));
  if (dual) {
    out.tensor("weight_dual_scale", LS_DTYPE_F32, {n, k / 512, 1},
               std::vector<float>(n * (k / 512), 2.0f));
  }
  return out;
}

class Mxfp4 : public ::testing::Test {
 protected:
  std::string load_refusal(TestLayer& layer) {
    return refusal([&] { single.produce(layer); });
  }
  std::string config_refusal(Driver& driver, const Json& fields) {
    return refusal([&] { driver.configure(fields); }, LS_INVALID_CONFIG);
  }
  Driver single{"mxfp4", "mxfp4"};
  Driver dual{"mxfp4", "mxfp4_dualscale"};
};

// ---- configuration -----------------------------------------------------------------------------

TEST_F(Mxfp4, RefusesFieldsThatTheReferenceRefuses) {
  EXPECT_EQ(config_refusal(single, {{"mxfp4_scale_alg", 1}}),
            "mxfp4_scale_alg rejected: found 1, expected 0 or 2");
  EXPECT_EQ(config_refusal(single, {{"require_smooth_scale", true}}),
            "require_smooth_scale rejected: found true without a serialized checkpoint, expected "
            "is_checkpoint_mxfp4_serialized: true");
  for (const char* name : {"", "a..b", ".a", "a.", "1a", "a b", "a*"}) {
    EXPECT_EQ(
        config_refusal(single, {{"w4a8_fallback_layers", {name}}}),
        "w4a8_fallback_layers rejected: found \"" + std::string(name) + "\", expected layer paths");
  }
  EXPECT_EQ(config_refusal(single, {{"w4a8_fallback_steps", {3, -1}}}),
            "w4a8_fallback_steps rejected: found -1, expected steps from 0");
  EXPECT_EQ(config_refusal(dual, {{"w4a8_fallback_layers", {"a.0"}}}),
            "w4a8_fallback_layers rejected: found layers, expected none with dual scales; did you "
            "mean method: mxfp4?");
  EXPECT_EQ(config_refusal(dual, {{"w4a8_fallback_steps", {0}}}),
            "w4a8_fallback_steps rejected: found steps, expected none with dual scales; did you "
            "mean method: mxfp4?");
  EXPECT_NE(config_refusal(dual, {{"w4a8_fallback_layers", {"a..b"}}}).find("layer paths"),
            std::string::npos)
      << "the format is checked first";
}

TEST_F(Mxfp4, NamesItsKernelByWhatTheActivationsAre) {
  TestLayer layer = floats(4, 64);
  single.configure(Json::object());
  EXPECT_EQ(single.plan(layer).kernel, "mxfp4_w4a4");
  single.configure({{"w4a8_fallback_layers", {"blocks.0.linear"}}});
  EXPECT_EQ(single.plan(layer).kernel, "mxfp4_w4a8");
  single.configure({{"w4a8_fallback_layers", {"blocks.0"}}});
  EXPECT_EQ(single.plan(layer).kernel, "mxfp4_w4a4") << "whole paths only";
  single.configure({{"w4a8_fallback_steps", {1}}});
  EXPECT_EQ(single.plan(layer).kernel, "mxfp4_w4a4_w4a8_by_step");
}

TEST_F(Mxfp4, LeadingBlocksAreKeptWhenQuantizedHere) {
  TestLayer layer = floats(4, 512);
  layer.path = "blocks.3.linear";
  dual.configure(Json::object());
  EXPECT_EQ(dual.plan(layer).work.verdict, uint32_t{LS_VERDICT_KEEP});
  EXPECT_EQ(dual.plan(layer).reason, "one of the leading 5 blocks (num_bf16_fallback_layers)");
  EXPECT_EQ(dual.ignored(layer), "num_bf16_fallback_layers");
  dual.configure({{"num_bf16_fallback_layers", 3}});
  EXPECT_EQ(dual.plan(layer).work.verdict, uint32_t{LS_VERDICT_QUANTIZE});
  EXPECT_EQ(dual.ignored(layer), "");
  TestLayer outside = floats(4, 512);
  outside.path = "proj_out";
  dual.configure(Json::object());
  EXPECT_EQ(dual.ignored(outside), "");
  EXPECT_EQ(dual.plan(outside).work.verdict, uint32_t{LS_VERDICT_QUANTIZE});
  TestLayer serialized = stored(4, 512, true);
  serialized.path = "blocks.3.linear";
  dual.configure({{"is_checkpoint_serialized", true}, {"num_bf16_fallback_layers", 5}});
  EXPECT_EQ(dual.plan(serialized).work.verdict, uint32_t{LS_VERDICT_QUANTIZE});
}

TEST_F(Mxfp4, WidthsThatDontFitAreUnsupportedOnlineAndRefusedStored) {
  single.configure(Json::object());
  TestLayer odd = floats(4, 33);
  EXPECT_EQ(single.plan(odd).reason, "found K = 33, expected an even one (two values a byte)");
  dual.configure({{"num_bf16_fallback_layers", 0}});
  TestLayer narrow = floats(4, 256);
  EXPECT_EQ(dual.plan(narrow).reason,
            "found K = 256, expected a multiple of 512; did you mean method: mxfp4?");
  dual.configure(kDual);
  TestLayer serialized = stored(4, 256);
  EXPECT_NE(refusal([&] { dual.plan(serialized); }).find("expected a multiple of 512"),
            std::string::npos);
}

// ---- stored forms ------------------------------------------------------------------------------

TEST_F(Mxfp4, TellsTheWidthOfAPackedLayer) {
  single.configure(kSerialized);
  for (const uint64_t known : {uint64_t{0}, uint64_t{32}, uint64_t{64}}) {
    TestLayer layer = stored(4, 64);
    layer.in = known;
    EXPECT_EQ(single.plan(layer).work.in, 64u);
  }
  TestLayer wrong = stored(4, 64);
  wrong.in = 128;
  EXPECT_NE(refusal([&] { single.plan(wrong); }).find("weight has a wrong shape"),
            std::string::npos);
}

TEST_F(Mxfp4, ValuesAsE4m3MustBeE2m1Numbers) {
  single.configure(kSerialized);
  TestLayer layer = empty(2, 32);
  std::vector<uint8_t> values(64, 0x38);
  values[32 + 9] = 0xc4;  // -3
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {2, 32}, values);
  layer.tensor("weight_scale", LS_DTYPE_U8, {2, 1}, std::vector<uint8_t>{127, 128});
  Produced produced = single.produce(layer);
  const auto w = single.dequantize(layer, produced, 0, 2, 32);
  EXPECT_EQ(w[0], 1.0f);
  EXPECT_EQ(w[32 + 9], -6.0f);
  layer.sources()[0].bytes[32 + 9] = '\x39';
  EXPECT_EQ(load_refusal(layer),
            "weight rejected: blocks.0.linear.weight: found a value that is no e2m1 number in row "
            "1, column 9");
}

TEST_F(Mxfp4, S27_MissingScalesNameWhatIsExpected) {
  single.configure(kSerialized);
  TestLayer layer = stored(4, 64);
  layer.sources().pop_back();
  EXPECT_EQ(load_refusal(layer),
            "mxfp4 weight has no scale: blocks.0.linear.weight: found nothing beside it, expected "
            "\"weight_scale\" as U8 [4, 2]");
  dual.configure(kDual);
  TestLayer outer = stored(4, 512);
  EXPECT_EQ(refusal([&] { dual.produce(outer); }),
            "mxfp4_dualscale weight has no outer scale: blocks.0.linear.weight: found only "
            "\"weight_scale\", expected \"weight_dual_scale\" as F32 [4, 1, 1]");
  TestLayer other = stored(4, 512, true);
  EXPECT_EQ(load_refusal(other),
            "scale of another method: blocks.0.linear.weight_dual_scale: found it beside a single "
            "scale; did you mean method: mxfp4_dualscale?");
}

TEST_F(Mxfp4, S28_OuterScaleOfAWrongShapeShowsBoth) {
  dual.configure(kDual);
  TestLayer layer = stored(4, 1024, true);
  layer.sources()[2].shape = {2, 4};
  EXPECT_EQ(refusal([&] { dual.produce(layer); }),
            "scale has a wrong shape: blocks.0.linear.weight_dual_scale: found [2, 4], expected "
            "[4, 2, 1] for a weight of [4, 512]");
}

TEST_F(Mxfp4, ScalesThatLeaveFloat32OverACodeAreRefused) {
  single.configure(kSerialized);
  TestLayer layer = stored(4, 64);
  layer.sources()[1].bytes[2 * 2 + 1] = '\xfe';  // 2^127
  std::vector<char>& codes = layer.sources()[0].bytes;
  std::fill(codes.begin() + 2 * 32 + 16, codes.begin() + 3 * 32, '\x3b');  // -1.5 and 1.5
  single.produce(layer);
  codes[2 * 32 + 20] = '\x43';  // 2: 2^128
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 2");
  layer.want = LS_WANT_DECODE;
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 2");
  dual.configure(kDual);
  TestLayer outer = stored(2, 512, true);
  std::fill_n(outer.sources()[1].bytes.begin() + 16, 16, '\x7f');    // 1
  std::fill_n(outer.sources()[0].bytes.begin() + 256, 256, '\x77');  // 6
  const float large = 0x1p126f;
  std::memcpy(outer.sources()[2].bytes.data() + 4, &large, 4);
  EXPECT_EQ(refusal([&] { dual.produce(outer); }),
            "weight is not finite: blocks.0.linear.weight: row 1");
}

TEST_F(Mxfp4, S29_ScalesThatNoFormatAllowsAreRefused) {
  single.configure(kSerialized);
  TestLayer nan = stored(4, 64);
  nan.sources()[1].bytes[5] = '\xff';
  EXPECT_EQ(load_refusal(nan),
            "scale rejected: blocks.0.linear.weight_scale: found 255 (NaN) in row 2, column 1, "
            "expected at most 254");
  dual.configure(kDual);
  for (const float bad : {NAN, INFINITY, -1.0f}) {
    TestLayer layer = stored(2, 512, true);
    std::memcpy(layer.sources()[2].bytes.data() + 4, &bad, 4);
    EXPECT_NE(refusal([&] { dual.produce(layer); }).find("at index 1, expected finite"),
              std::string::npos);
  }
  TestLayer zero = stored(2, 512, true);
  std::memset(zero.sources()[2].bytes.data() + 4, 0, 4);
  EXPECT_EQ(
      refusal([&] { dual.produce(zero); }),
      "scale rejected: blocks.0.linear.weight_dual_scale: found 0 over codes that aren't 0 in "
      "row 1, expected more than 0");
  std::memset(zero.sources()[0].bytes.data() + 256, 0x80, 256);  // -0 and 0
  dual.produce(zero);
}

TEST_F(Mxfp4, S33_WeightsThatAreNotFiniteAreRefused) {
  single.configure(Json::object());
  auto values = random_values(5 * 64);
  values[3 * 64 + 35] = NAN;
  TestLayer layer = empty(5, 64);
  layer.tensor("weight", LS_DTYPE_F32, {5, 64}, values);
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 3, column 35");
}

// ---- smoothing ---------------------------------------------------------------------------------

TEST_F(Mxfp4, MulScaleIsRefusedWhenItCantMultiply) {
  single.configure({{"is_checkpoint_mxfp4_serialized", true}, {"require_smooth_scale", true}});
  TestLayer missing = stored(4, 64);
  EXPECT_EQ(load_refusal(missing),
            "smoothing scale missing: blocks.0.linear.weight: found only \"weight_scale\", "
            "expected \"mul_scale\" as F32 [64] (require_smooth_scale)");
  TestLayer ranked = stored(4, 64);
  ranked.tensor("mul_scale", LS_DTYPE_F32, {64, 1}, std::vector<float>(64, 1.0f));
  EXPECT_EQ(load_refusal(ranked),
            "smoothing scale has a wrong shape: blocks.0.linear.mul_scale: found [64, 1], expected "
            "[64]");
  TestLayer integers = stored(4, 64);
  integers.tensor("mul_scale", LS_DTYPE_I32, {64}, std::vector<int32_t>(64, 1));
  EXPECT_EQ(load_refusal(integers),
            "smoothing scale has a wrong dtype: blocks.0.linear.mul_scale: found I32, expected "
            "F32, BF16 or F16");
  const std::pair<float, const char*> bad[] = {{NAN, "NaN or infinity"},
                                               {INFINITY, "NaN or infinity"},
                                               {0.0f, "0 or a negative value"},
                                               {-1.0f, "0 or a negative value"}};
  for (const auto& [value, text] : bad) {
    TestLayer layer = stored(4, 64);
    std::vector<float> mul(64, 1.0f);
    mul[7] = value;
    layer.tensor("mul_scale", LS_DTYPE_F32, {64}, mul);
    EXPECT_EQ(load_refusal(layer),
              std::string("smoothing scale rejected: blocks.0.linear.mul_scale: found ") + text +
                  " at index 7, expected finite and more than 0");
  }
  TestLayer lost = stored(4, 64);
  std::vector<float> mul(64, 1.0f);
  mul[9] = 1e-30f;
  lost.tensor("mul_scale", LS_DTYPE_F32, {64}, mul);
  lost.load_dtype = LS_DTYPE_F16;
  EXPECT_EQ(load_refusal(lost),
            "smoothing scale rejected: blocks.0.linear.mul_scale: found a value that F16 can't "
            "hold at index 9, expected finite and more than 0");
  lost.load_dtype = LS_DTYPE_BF16;
  single.produce(lost);
}

TEST_F(Mxfp4, FusedPartsShareOneMulScaleOrBecomeLayersOfTheirOwn) {
  single.configure(kSerialized);
  const auto fused = [&](bool second, float value) {
    TestLayer layer;
    layer.out = 4;
    layer.in = 64;
    layer.part("q", 0, 2);
    layer.part("k", 2, 2);
    for (uint32_t part = 0; part < 2; ++part) {
      layer.tensor("weight", LS_DTYPE_U8, {2, 32}, random_bytes(64, part + 1), part);
      layer.tensor("weight_scale", LS_DTYPE_U8, {2, 2}, std::vector<uint8_t>(4, 120), part);
      std::vector<float> mul(64, 0.5f);
      if (part == 1) mul[3] = value;
      if (part == 0 || second) layer.tensor("mul_scale", LS_DTYPE_F32, {64}, mul, part);
    }
    return layer;
  };
  TestLayer equal = fused(true, 0.5f);
  const Answer asks = single.plan(equal);
  EXPECT_EQ(std::count_if(asks.sources.begin(), asks.sources.end(),
                          [](const ls_source& s) { return s.mode == LS_SOURCE_NEEDS_VALUE; }),
            2);
  equal.show_values();
  Produced produced = single.produce(equal);
  EXPECT_EQ(produced.named("mul_scale").as<float>(), std::vector<float>(64, 0.5f));
  TestLayer differ = fused(true, 0.25f);
  differ.show_values();
  EXPECT_EQ(single.plan(differ).work.verdict, uint32_t{LS_VERDICT_SPLIT});
  EXPECT_EQ(single.plan(differ).reason, "parts have different smoothing scales");
  TestLayer some = fused(false, 0.5f);
  EXPECT_EQ(single.plan(some).reason, "parts have different smoothing scales: some have none");
}

TEST_F(Mxfp4, DequantizeFoldsMulScaleUnlessRaw) {
  single.configure(kSerialized);
  TestLayer layer = stored(3, 64);
  const auto mul = random_values(64, 12);
  std::vector<float> positive(64);
  for (int i = 0; i < 64; ++i) positive[i] = std::abs(mul[i]) + 0.1f;
  layer.tensor("mul_scale", LS_DTYPE_F32, {64}, positive);
  Produced produced = single.produce(layer);
  const auto folded = single.dequantize(layer, produced, 0, 3, 64);
  const auto raw = single.raw_weight(layer, produced);
  for (int i = 0; i < 3 * 64; ++i) EXPECT_EQ(folded[i], raw[i] * positive[i % 64]);

  layer.want = LS_WANT_DECODE;
  layer.load_dtype = LS_DTYPE_F32;
  Produced decoded = single.produce(layer);
  EXPECT_EQ(decoded.named("weight").as<float>(), folded);
}

TEST_F(Mxfp4, MulScaleMultipliesInTheActivationsDtype) {
  single.configure(kSerialized);
  TestLayer smooth = stored(5, 64), plain = stored(5, 64);
  std::vector<float> mul(64);
  for (int i = 0; i < 64; ++i) mul[i] = 0.3f + 0.013f * static_cast<float>(i);
  smooth.tensor("mul_scale", LS_DTYPE_F32, {64}, mul);
  Produced with = single.produce(smooth), without = single.produce(plain);
  const auto round = [](float value) { return common::bf16_decode(common::bf16_encode(value)); };
  auto x = random_values(2 * 64, 3);
  for (float& value : x) value = round(value);
  std::vector<float> scaled(x.size());
  for (size_t i = 0; i < x.size(); ++i) scaled[i] = round(x[i] * round(mul[i % 64]));
  std::vector<uint16_t> halves(x.size()), scaled_halves(x.size());
  common::bf16_encode(x.data(), halves.data(), x.size());
  common::bf16_encode(scaled.data(), scaled_halves.data(), x.size());
  Driver::Run run;
  run.x_dtype = LS_DTYPE_BF16;
  run.m = 2;
  run.k = 64;
  run.n = 5;
  run.x = halves.data();
  const auto smoothed = single.apply(smooth, with, run);
  run.x = scaled_halves.data();
  EXPECT_EQ(smoothed, single.apply(plain, without, run));
}

// ---- saving ------------------------------------------------------------------------------------

TEST_F(Mxfp4, WhatIsSavedLoadsToTheSameBytes) {
  for (Driver* driver : {&single, &dual}) {
    const bool outer = driver == &dual;
    driver->configure(outer ? Json{{"num_bf16_fallback_layers", 0}} : Json::object());
    TestLayer layer = floats(6, 512), again = empty(6, 512);
    Produced produced = driver->produce(layer);
    for (const Driver::Saved& one : driver->save(layer, produced)) {
      const std::vector<uint64_t> shape(one.shape.shape, one.shape.shape + one.shape.rank);
      again.tensor(one.name, one.shape.dtype, shape, one.bytes, one.part);
    }
    driver->configure(outer ? kDual : kSerialized);
    Produced reloaded = driver->produce(again);
    ASSERT_EQ(reloaded.answer.stored_names, produced.answer.stored_names);
    for (size_t i = 0; i < produced.blocks.size(); ++i) {
      EXPECT_EQ(reloaded.blocks[i].as<char>(), produced.blocks[i].as<char>());
    }
  }
}

TEST_F(Mxfp4, KeysTellVariantsAndSmoothingApart) {
  single.configure({{"w4a8_fallback_steps", {1}}});
  TestLayer layer = floats(4, 64);
  Produced produced = single.produce(layer);
  const auto x = random_values(64);
  Driver::Run run;
  run.x = x.data();
  run.m = 1;
  run.k = 64;
  run.n = 4;
  run.step.count = 2;
  std::vector<uint8_t> four, eight, smooth, again;
  single.apply(layer, produced, run, &four);
  run.step.index = 1;
  single.apply(layer, produced, run, &eight);
  EXPECT_NE(four, eight);
  single.configure(kSerialized);
  TestLayer with = stored(4, 64);
  with.tensor("mul_scale", LS_DTYPE_F32, {64}, std::vector<float>(64, 2.0f));
  Produced smoothed = single.produce(with);
  single.apply(with, smoothed, run, &smooth);
  EXPECT_NE(smooth, four);
  TestLayer plain = stored(4, 64);
  Produced unsmoothed = single.produce(plain);
  single.apply(plain, unsmoothed, run, &again);
  EXPECT_EQ(again, four) << "equal numerics of other weights share";
}

TEST_F(Mxfp4, NonFiniteActivationsNeverGiveASilentNumber) {
  single.configure(Json::object());
  expect_non_finite_activations_show(single, 512);
  dual.configure({{"num_bf16_fallback_layers", 0}});
  expect_non_finite_activations_show(dual, 512);
}

}  // namespace
}  // namespace loadstone::mxfp4
