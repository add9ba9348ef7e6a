// The plugin's rules: what it refuses and in which words, what it keeps, splits, decodes and saves.
#include "common/numerics/fp8.hpp"

#include <cmath>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/testing/online.hpp"

namespace loadstone::fp8 {
namespace {

using namespace common::testing;

const Json kSerialized = {{"is_checkpoint_fp8_serialized", true}};
const Json kStatic = {{"is_checkpoint_fp8_serialized", true}, {"activation_scheme", "static"}};

std::vector<uint8_t> random_codes(uint64_t n, uint32_t seed = 1) {
  Random random(seed);
  std::vector<uint8_t> out(n);
  for (uint8_t& code : out) {
    code = static_cast<uint8_t>(random.bits());
    if ((code & 0x7f) == 0x7f) code = 0;
  }
  return out;
}

TestLayer stored(uint64_t n, uint64_t k, const std::string& scale, std::vector<uint64_t> shape,
                 const std::vector<float>& scales) {
  TestLayer out = empty(n, k);
  out.tensor("weight", LS_DTYPE_F8_E4M3, {n, k}, random_codes(n * k));
  out.tensor(scale, LS_DTYPE_F32, std::move(shape), scales);
  return out;
}

class Fp8 : public ::testing::Test {
 protected:
  std::string plan_refusal(TestLayer& layer, int32_t status = LS_INVALID_CHECKPOINT) {
    return refusal([&] { driver.plan(layer); }, status);
  }
  std::string load_refusal(TestLayer& layer) {
    return refusal([&] { driver.produce(layer); }, LS_INVALID_CHECKPOINT);
  }
  std::string config_refusal(const Json& fields) {
    return refusal([&] { driver.configure(fields); }, LS_INVALID_CONFIG);
  }
  Driver driver{"fp8"};
};

// ---- configuration -----------------------------------------------------------------------------

TEST_F(Fp8, RefusesContradictionsOfFields) {
  EXPECT_EQ(config_refusal({{"weight_block_size", {128}}}),
            "weight_block_size rejected: found [128], expected two positive numbers (rows, "
            "columns), as [128, 128]");
  EXPECT_EQ(config_refusal({{"weight_block_size", {0, -1}}}),
            "weight_block_size rejected: found [0, -1], expected two positive numbers (rows, "
            "columns), as [128, 128]");
  EXPECT_EQ(config_refusal({{"weight_block_size", {128, 128}}, {"weight_granularity", "tensor"}}),
            "weight_block_size rejected: found it beside weight_granularity: tensor, expected "
            "weight_granularity: block");
  EXPECT_EQ(config_refusal({{"weight_granularity", "block"}, {"activation_scheme", "static"}}),
            "activation_scheme rejected: found \"static\" with weight blocks, expected "
            "\"dynamic\"");
  EXPECT_EQ(config_refusal({{"weight_granularity", "block"}, {"activation_granularity", "tensor"}}),
            "activation_granularity rejected: found \"tensor\" with weight blocks, expected "
            "\"token\": block activations are scaled by groups of a token");
}

TEST_F(Fp8, NamesItsKernelByGranularities) {
  const std::pair<Json, const char*> cases[] = {
      {Json::object(), "fp8_channel_token"},
      {{{"weight_granularity", "tensor"}}, "fp8_tensor_token"},
      {{{"activation_granularity", "tensor"}}, "fp8_channel_tensor"},
      {{{"weight_granularity", "block"}}, "fp8_block_group"},
      {{{"weight_block_size", {64, 32}}}, "fp8_block_group"},
  };
  for (const auto& [fields, kernel] : cases) {
    driver.configure(fields);
    TestLayer layer = floats(8, 256);
    EXPECT_EQ(driver.plan(layer).kernel, kernel);
  }
}

// ---- verdicts ----------------------------------------------------------------------------------

TEST_F(Fp8, KeepsFloatsOfASerializedCheckpoint) {
  driver.configure(kSerialized);
  TestLayer layer = floats(4, 8);
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, static_cast<uint32_t>(LS_VERDICT_KEEP));
  EXPECT_EQ(answer.reason, "stored as F32 in a checkpoint of serialized fp8");
}

TEST_F(Fp8, RefusesWhatIsNoProductOrNoMatrix) {
  driver.configure(Json::object());
  TestLayer gather = floats(4, 8);
  gather.kind = LS_KIND_GATHER;
  EXPECT_EQ(driver.plan(gather).work.verdict, static_cast<uint32_t>(LS_VERDICT_UNSUPPORTED));
  TestLayer packed = empty(4, 8);
  packed.tensor("weight", LS_DTYPE_I8, {4, 8}, std::vector<int8_t>(32));
  EXPECT_EQ(driver.plan(packed).reason, "found a weight of I8, expected F8_E4M3, BF16, F16 or F32");
}

TEST_F(Fp8, SplitsPartsThatAreStoredDifferently) {
  driver.configure(kSerialized);
  TestLayer layer;
  layer.out = 4;
  layer.in = 8;
  layer.part("q", 0, 2);
  layer.part("k", 2, 2);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {2, 8}, random_codes(16), 0);
  layer.tensor("weight_scale", LS_DTYPE_F32, {}, std::vector<float>{1.0f}, 0);
  layer.tensor("weight", LS_DTYPE_BF16, {2, 8}, std::vector<uint16_t>(16), 1);
  Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, static_cast<uint32_t>(LS_VERDICT_SPLIT));
  EXPECT_EQ(answer.reason, "parts are stored differently: F8_E4M3 and BF16");

  layer.sources()[2].dtype = LS_DTYPE_F8_E4M3;
  layer.sources()[2].bytes.resize(16);
  layer.tensor("weight_scale", LS_DTYPE_F32, {2, 1}, std::vector<float>{1.0f, 2.0f}, 1);
  EXPECT_EQ(driver.plan(layer).reason, "parts have scales of different granularity");
}

TEST_F(Fp8, BlocksThatDontFitTheActivationAreMultipliedWithoutQuantizingIt) {
  driver.configure(kSerialized);
  TestLayer layer = stored(130, 192, "weight_scale_inv", {2, 2}, {0.5f, 1.0f, 2.0f, 0.25f});
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.kernel, "fp8_block_weight_only");
  EXPECT_EQ(produced.answer.reason,
            "K = 192 is not whole activation groups of 128 (a multiple of 32): the activation "
            "stays as it is");
  const auto codes = produced.named("weight").as<uint8_t>();
  const auto w = driver.dequantize(layer, produced, 0, 130, 192);
  const float scales[] = {0.5f, 1.0f, 2.0f, 0.25f};
  for (uint64_t n = 0; n < 130; ++n) {
    for (uint64_t k = 0; k < 192; ++k) {
      ASSERT_EQ(w[n * 192 + k],
                common::e4m3_decode(codes[n * 192 + k]) * scales[n / 128 * 2 + k / 128]);
    }
  }
  const auto x = random_values(3 * 192, 8);
  Driver::Run run;
  run.x = x.data();
  run.m = 3;
  run.k = 192;
  run.n = 130;
  const auto y = driver.apply(layer, produced, run);
  for (uint64_t i = 0; i < 3; ++i) {
    double sum = 0;
    for (uint64_t k = 0; k < 192; ++k) sum += static_cast<double>(x[i * 192 + k]) * w[k];
    EXPECT_NEAR(y[i * 130], sum, 1e-3 * std::abs(sum) + 1e-4);
  }
}

// ---- scales and weights that are refused -------------------------------------------------------

TEST_F(Fp8, S27_MissingScaleNamesWhatIsExpected) {
  driver.configure(kSerialized);
  TestLayer layer = empty(300, 256);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {300, 256}, random_codes(300 * 256));
  layer.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{1.0f});
  EXPECT_EQ(plan_refusal(layer),
            "fp8 weight has no scale: blocks.0.linear.weight: found only \"input_scale\", expected "
            "\"weight_scale\" as F32 [], [300] or [300, 1], or \"weight_scale_inv\" as F32 [3, 2]");
}

TEST_F(Fp8, S27_StaticActivationsNeedAStoredScale) {
  driver.configure(kStatic);
  TestLayer serialized = stored(4, 8, "weight_scale", {}, {1.0f});
  const std::string text =
      "static activations have no scale: blocks.0.linear: found no \"input_scale\", expected one "
      "as F32 [] or [1] in the checkpoint, where a calibrating tool writes it; did you mean "
      "activation_scheme: dynamic?";
  EXPECT_EQ(plan_refusal(serialized, LS_INVALID_CONFIG), text);
  driver.configure({{"activation_scheme", "static"}});
  TestLayer online = floats(4, 8);
  EXPECT_EQ(plan_refusal(online, LS_INVALID_CONFIG), text);
}

TEST_F(Fp8, S28_ScaleOfAWrongShapeShowsBoth) {
  driver.configure(kSerialized);
  TestLayer rows = stored(6, 8, "weight_scale", {5}, std::vector<float>(5, 1.0f));
  EXPECT_EQ(plan_refusal(rows),
            "scale has a wrong shape: blocks.0.linear.weight_scale: found [5], expected [], [1], "
            "[6], [6, 1] or [1, 1] for a weight of [6, 8]");
  TestLayer grid = stored(300, 256, "weight_scale_inv", {2, 2}, std::vector<float>(4, 1.0f));
  EXPECT_EQ(plan_refusal(grid),
            "scale has a wrong shape: blocks.0.linear.weight_scale_inv: found [2, 2], expected "
            "[3, 2] for a weight of [300, 256]");
  driver.configure(kStatic);
  TestLayer input = stored(6, 8, "weight_scale", {}, {1.0f});
  input.tensor("input_scale", LS_DTYPE_F32, {2}, std::vector<float>{1.0f, 1.0f});
  EXPECT_EQ(plan_refusal(input),
            "scale has a wrong shape: blocks.0.linear.input_scale: found [2], expected [] or [1]");
}

TEST_F(Fp8, S28_ScaleOfAWrongDtypeIsNamed) {
  driver.configure(kSerialized);
  TestLayer layer = empty(4, 8);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {4, 8}, random_codes(32));
  layer.tensor("weight_scale", LS_DTYPE_U8, {4, 1}, std::vector<uint8_t>(4));
  EXPECT_EQ(plan_refusal(layer),
            "scale has a wrong dtype: blocks.0.linear.weight_scale: found U8, expected F32, BF16 "
            "or F16");
}

TEST_F(Fp8, S28_WeightOfAWrongShapeShowsBoth) {
  driver.configure(kSerialized);
  TestLayer layer = empty(4, 8);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {4, 9}, random_codes(36));
  layer.tensor("weight_scale", LS_DTYPE_F32, {}, std::vector<float>{1.0f});
  EXPECT_EQ(plan_refusal(layer),
            "weight has a wrong shape: blocks.0.linear.weight: found [4, 9], expected [4, 8]");
}

TEST_F(Fp8, S29_ScalesThatNoFormatAllowsAreRefusedWithTheirIndex) {
  driver.configure(kSerialized);
  const std::pair<float, const char*> bad[] = {{NAN, "NaN"},
                                               {INFINITY, "infinity"},
                                               {-INFINITY, "a negative value"},
                                               {-0.5f, "a negative value"}};
  for (const auto& [value, text] : bad) {
    TestLayer layer = stored(3, 8, "weight_scale", {3, 1}, {1.0f, 1.0f, value});
    EXPECT_EQ(load_refusal(layer),
              std::string("scale rejected: blocks.0.linear.weight_scale: found ") + text +
                  " at index 2, expected finite and at least 0");
  }
  driver.configure(kStatic);
  for (const auto& [value, text] : bad) {
    TestLayer layer = stored(3, 8, "weight_scale", {}, {1.0f});
    layer.tensor("input_scale", LS_DTYPE_F32, {1}, std::vector<float>{value});
    EXPECT_EQ(load_refusal(layer),
              std::string("scale rejected: blocks.0.linear.input_scale: found ") + text +
                  " at index 0, expected finite and at least 0");
  }
  TestLayer zero = stored(3, 8, "weight_scale", {}, {1.0f});
  zero.tensor("input_scale", LS_DTYPE_F32, {1}, std::vector<float>{0.0f});
  EXPECT_EQ(load_refusal(zero),
            "scale rejected: blocks.0.linear.input_scale: found 0, expected more than 0");
}

TEST_F(Fp8, S29_ZeroScaleIsAllowedOnlyOverZeroCodes) {
  driver.configure(kSerialized);
  TestLayer layer = stored(2, 8, "weight_scale", {2, 1}, {1.0f, 0.0f});
  EXPECT_EQ(load_refusal(layer),
            "scale rejected: blocks.0.linear.weight_scale: found 0 over codes that aren't 0 in row "
            "1, expected more than 0");
  std::fill(layer.sources()[0].bytes.begin() + 8, layer.sources()[0].bytes.end(), '\0');
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.named("weight_scale").as<float>()[1], 0.0f);

  TestLayer blocks = stored(1, 256, "weight_scale_inv", {1, 2}, {1.0f, 0.0f});
  EXPECT_NE(load_refusal(blocks).find("found 0 over codes"), std::string::npos);
  std::fill(blocks.sources()[0].bytes.begin() + 128, blocks.sources()[0].bytes.end(), '\x80');
  driver.produce(blocks);  // -0 is 0
}

TEST_F(Fp8, S29_ScalesWhoseProductsLeaveFloat32AreRefusedWithTheirRow) {
  driver.configure(kSerialized);
  for (const uint32_t want : {LS_WANT_QUANTIZE, LS_WANT_DECODE}) {
    TestLayer rows = stored(2, 8, "weight_scale", {2, 1}, {1.0f, 1e38f});
    TestLayer blocks = stored(1, 256, "weight_scale_inv", {1, 2}, {1.0f, 1e38f});
    TestLayer tensor = stored(2, 8, "weight_scale", {}, {1e38f});
    for (TestLayer* layer : {&rows, &blocks, &tensor}) {
      layer->want = want;
      layer->load_dtype = LS_DTYPE_F32;
      std::vector<char>& codes = layer->sources()[0].bytes;
      std::fill(codes.begin(), codes.end(), '\x44');  // 3: 3e38 is a float32
      driver.produce(*layer);
      codes.back() = '\x48';  // 4
      EXPECT_EQ(load_refusal(*layer), "weight is not finite: blocks.0.linear.weight: row " +
                                          std::to_string(layer->out - 1));
    }
  }
}

TEST_F(Fp8, S33_WeightsThatAreNotFiniteAreRefused) {
  const Json ways[] = {
      Json::object(), {{"weight_granularity", "tensor"}}, {{"weight_block_size", {2, 32}}}};
  for (const Json& fields : ways) {
    driver.configure(fields);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      auto values = random_values(5 * 64);
      values[3 * 64 + 40] = bad;
      TestLayer layer = empty(5, 64);
      layer.tensor("weight", LS_DTYPE_F32, {5, 64}, values);
      const std::string text = load_refusal(layer);
      EXPECT_EQ(text.rfind("weight is not finite: ", 0), 0u) << text;
      EXPECT_NE(text.find("row 3"), std::string::npos) << text;
    }
  }
  driver.configure(kSerialized);
  TestLayer layer = stored(4, 8, "weight_scale", {}, {1.0f});
  layer.sources()[0].bytes[2 * 8 + 5] = '\xff';
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 2");
  layer.want = LS_WANT_DECODE;
  EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 2");
}

TEST_F(Fp8, S33_ZeroAndSubnormalRowsHaveTheStatedScales) {
  auto values = random_values(3 * 8);
  for (int i = 0; i < 8; ++i) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
  for (int i = 8; i < 16; ++i) values[i] = 1e-40f;
  TestLayer layer = empty(3, 8);
  layer.tensor("weight", LS_DTYPE_F32, {3, 8}, values);
  driver.configure(Json::object());
  Produced produced = driver.produce(layer);
  const auto scales = produced.named("weight_scale").as<float>();
  EXPECT_EQ(scales[0], common::kFp8MinScale);
  EXPECT_EQ(scales[1], common::kFp8MinScale);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(produced.named("weight").as<uint8_t>()[i] & 0x7f, 0);

  TestLayer zeros = empty(3, 8);
  zeros.tensor("weight", LS_DTYPE_F32, {3, 8}, std::vector<float>(24, -0.0f));
  driver.configure({{"weight_granularity", "tensor"}});
  Produced none = driver.produce(zeros);
  EXPECT_EQ(none.named("weight_scale").as<float>()[0], 1.0f);
  EXPECT_EQ(none.named("weight").as<uint8_t>(), std::vector<uint8_t>(24, 0));
}

// ---- forms -------------------------------------------------------------------------------------

TEST_F(Fp8, WidensBf16AndF16Scales) {
  driver.configure(kSerialized);
  TestLayer bf16 = empty(2, 8);
  bf16.tensor("weight", LS_DTYPE_F8_E4M3, {2, 8}, random_codes(16));
  bf16.tensor("weight_scale", LS_DTYPE_BF16, {2}, std::vector<uint16_t>{0x3f80, 0x3e01});
  Produced produced = driver.produce(bf16);
  EXPECT_EQ(produced.named("weight_scale").as<float>(),
            (std::vector<float>{1.0f, common::bf16_decode(0x3e01)}));
  TestLayer f16 = empty(2, 8);
  f16.tensor("weight", LS_DTYPE_F8_E4M3, {2, 8}, random_codes(16));
  f16.tensor("weight_scale", LS_DTYPE_F16, {1}, std::vector<uint16_t>{0x3c01});
  EXPECT_EQ(driver.produce(f16).named("weight_scale").as<float>()[0], common::f16_decode(0x3c01));
}

TEST_F(Fp8, ReadsComfyNamesAndUsesStoredInputScalesWhereThereAreSome) {
  driver.configure({{"is_checkpoint_fp8_serialized", true}, {"static_where_stored", true}});
  TestLayer with = stored(4, 8, "scale_weight", {}, {0.5f});
  with.tensor("scale_input", LS_DTYPE_F32, {}, std::vector<float>{0.25f});
  EXPECT_EQ(driver.plan(with).kernel, "fp8_tensor_static");
  TestLayer without = stored(4, 8, "scale_weight", {}, {0.5f});
  EXPECT_EQ(driver.plan(without).kernel, "fp8_tensor_token");
  TestLayer marked = stored(4, 8, "weight_scale", {}, {0.5f});
  marked.tensor("comfy_quant", LS_DTYPE_U8, {2}, std::vector<uint8_t>{'{', '}'});
  EXPECT_EQ(driver.plan(marked).unused.count(2), 1u);
  driver.configure({{"is_checkpoint_fp8_serialized", true}, {"full_precision_matmul", true}});
  EXPECT_EQ(driver.plan(with).kernel, "fp8_tensor_weight_only");
}

TEST_F(Fp8, NamesInputScalesUnusedWhenActivationsAreDynamic) {
  driver.configure(kSerialized);
  TestLayer layer = stored(4, 8, "weight_scale", {}, {0.5f});
  layer.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.25f});
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.kernel, "fp8_tensor_token");
  EXPECT_EQ(answer.unused.at(2), "activations are scaled as they come");
}

TEST_F(Fp8, ReadsE5m2Codes) {
  driver.configure(kSerialized);
  TestLayer layer = empty(2, 8);
  std::vector<uint8_t> codes(16, 0x3c);
  codes[3] = 0xc0;
  layer.tensor("weight", LS_DTYPE_F8_E5M2, {2, 8}, codes);
  layer.tensor("weight_scale", LS_DTYPE_F32, {}, std::vector<float>{3.0f});
  Produced produced = driver.produce(layer);
  const auto w = driver.dequantize(layer, produced, 0, 2, 8);
  EXPECT_EQ(w[0], 3.0f);
  EXPECT_EQ(w[3], -6.0f);
  layer.sources()[0].bytes[1] = 0x7c;  // infinity
  EXPECT_NE(load_refusal(layer).find("weight is not finite"), std::string::npos);
}

TEST_F(Fp8, DecodesToTheLoadDtype) {
  driver.configure(kSerialized);
  TestLayer layer = stored(3, 40, "weight_scale", {3, 1}, {0.5f, 0.125f, 3.0f});
  Produced kept = driver.produce(layer);
  const auto wanted = driver.dequantize(layer, kept, 0, 3, 40);
  layer.want = LS_WANT_DECODE;
  for (const uint32_t dtype : {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16}) {
    layer.load_dtype = dtype;
    Produced decoded = driver.produce(layer, 9);
    EXPECT_EQ(decoded.answer.work.verdict, static_cast<uint32_t>(LS_VERDICT_DECODE));
    std::vector<char> narrowed(wanted.size() * common::float_nbytes(dtype));
    common::narrow(dtype, wanted.data(), narrowed.data(), wanted.size());
    EXPECT_EQ(decoded.named("weight").as<char>(), narrowed);
  }
}

TEST_F(Fp8, PartsOfOneFileTensorReadTheirRows) {
  // Rows 130..259 of a file's 300, in blocks of 128: the grid is the file's.
  driver.configure(kSerialized);
  const auto codes = random_codes(300 * 128);
  TestLayer layer;
  layer.out = 130;
  layer.in = 128;
  layer.part("qkv", 0, 130, 0, 130, 300);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {300, 128}, codes);
  layer.tensor("weight_scale_inv", LS_DTYPE_F32, {3, 1}, std::vector<float>{1.0f, 2.0f, 4.0f});
  Produced produced = driver.produce(layer);
  const auto w = driver.dequantize(layer, produced, 0, 130, 128);
  for (uint64_t row = 0; row < 130; ++row) {
    const float scale = (130 + row) / 128 == 1 ? 2.0f : 4.0f;
    ASSERT_EQ(w[row * 128], common::e4m3_decode(codes[(130 + row) * 128]) * scale) << row;
  }
  EXPECT_NE(refusal([&] { driver.save(layer, produced); }, LS_UNSUPPORTED)
                .find("inside a block of 128 rows"),
            std::string::npos);
}

TEST_F(Fp8, OnlineTensorScalesAreEachPartsOwn) {
  driver.configure({{"weight_granularity", "tensor"}});
  TestLayer layer;
  layer.out = 6;
  layer.in = 16;
  layer.part("q", 0, 4);
  layer.part("k", 4, 2);
  auto q = random_values(64, 1), k = random_values(32, 2);
  for (float& value : k) value *= 100.0f;
  layer.tensor("weight", LS_DTYPE_F32, {4, 16}, q, 0);
  layer.tensor("weight", LS_DTYPE_F32, {2, 16}, k, 1);
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.work.passes, 2u);
  const auto scales = produced.named("weight_scale").as<float>();
  EXPECT_EQ(scales[0], common::fp8_tensor_scale(common::max_magnitude(q.data(), 64)));
  EXPECT_EQ(scales[1], common::fp8_tensor_scale(common::max_magnitude(k.data(), 32)));
}

TEST_F(Fp8, UnequalInputScalesOfPartsAreKeptApart) {
  driver.configure(kStatic);
  const auto codes = random_codes(8 * 64);
  TestLayer fused;
  fused.out = 8;
  fused.in = 64;
  fused.part("q", 0, 5);
  fused.part("k", 5, 3);
  const std::vector<uint8_t> q(codes.begin(), codes.begin() + 5 * 64);
  const std::vector<uint8_t> k(codes.begin() + 5 * 64, codes.end());
  fused.tensor("weight", LS_DTYPE_F8_E4M3, {5, 64}, q, 0);
  fused.tensor("weight_scale", LS_DTYPE_F32, {}, std::vector<float>{0.5f}, 0);
  fused.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.01f}, 0);
  fused.tensor("weight", LS_DTYPE_F8_E4M3, {3, 64}, k, 1);
  fused.tensor("weight_scale", LS_DTYPE_F32, {}, std::vector<float>{2.0f}, 1);
  fused.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.07f}, 1);
  const auto x = random_values(5 * 64, 77);
  Driver::Run run;
  run.x = x.data();
  run.m = 5;
  run.k = 64;
  run.n = 8;
  Produced produced = driver.produce(fused);
  const auto together = driver.apply(fused, produced, run);
  for (uint32_t part = 0; part < 2; ++part) {
    TestLayer alone = empty(part == 0 ? 5 : 3, 64);
    for (size_t i = 0; i < 3; ++i) {
      const auto& source = fused.sources()[part * 3 + i];
      alone.tensor(source.name, source.dtype, source.shape, source.bytes);
    }
    Produced own = driver.produce(alone);
    run.n = alone.out;
    const auto apart = driver.apply(alone, own, run);
    for (uint64_t i = 0; i < 5; ++i) {
      for (uint64_t j = 0; j < alone.out; ++j) {
        EXPECT_FLOAT_EQ(together[i * 8 + part * 5 + j], apart[i * alone.out + j]);
      }
    }
  }
}

TEST_F(Fp8, ExpertsAreMultipliedByTheirOwnMatrix) {
  driver.configure(Json::object());
  expect_experts_by_their_own_matrix(driver);
}

// ---- running -----------------------------------------------------------------------------------

TEST_F(Fp8, NonFiniteActivationsNeverGiveASilentNumber) {
  for (const Json& fields : {Json::object(), Json{{"weight_block_size", {128, 32}}}}) {
    driver.configure(fields);
    expect_non_finite_activations_show(driver, 64);
  }
  driver.configure({{"activation_granularity", "tensor"}});
  expect_non_finite_activations_show(driver, 64, true);
}

TEST_F(Fp8, EqualActivationsHaveEqualKeysAndOthersDiffer) {
  const auto key_of = [&](const Json& fields, uint64_t k, uint32_t seed) {
    driver.configure(fields);
    TestLayer layer = floats(4, k, seed);
    Produced produced = driver.produce(layer);
    const auto x = random_values(k);
    Driver::Run run;
    run.x = x.data();
    run.m = 1;
    run.k = k;
    run.n = 4;
    std::vector<uint8_t> key;
    driver.apply(layer, produced, run, &key);
    EXPECT_EQ(key.size(), 32u);
    return key;
  };
  const auto token = key_of(Json::object(), 128, 1);
  EXPECT_EQ(token, key_of({{"weight_granularity", "tensor"}}, 128, 2));
  EXPECT_NE(token, key_of({{"activation_granularity", "tensor"}}, 128, 1));
  EXPECT_NE(token, key_of({{"weight_granularity", "block"}}, 128, 1));
  EXPECT_NE(token, key_of(Json::object(), 64, 1));
}

TEST_F(Fp8, WhatIsSavedLoadsToTheSameBytes) {
  const Json ways[] = {
      Json::object(), {{"weight_granularity", "tensor"}}, {{"weight_granularity", "block"}}};
  for (const Json& fields : ways) {
    driver.configure(fields);
    TestLayer layer = floats(150, 256, 3);
    Produced produced = driver.produce(layer);
    TestLayer again = empty(150, 256);
    for (const Driver::Saved& saved : driver.save(layer, produced)) {
      const std::vector<uint64_t> shape(saved.shape.shape, saved.shape.shape + saved.shape.rank);
      again.tensor(saved.name, saved.shape.dtype, shape, saved.bytes);
    }
    Json serialized = kSerialized;
    driver.configure(serialized);
    Produced reloaded = driver.produce(again);
    ASSERT_EQ(reloaded.answer.stored_names, produced.answer.stored_names);
    for (size_t i = 0; i < produced.blocks.size(); ++i) {
      EXPECT_EQ(reloaded.blocks[i].as<char>(), produced.blocks[i].as<char>());
    }
  }
}

}  // namespace
}  // namespace loadstone::fp8
