#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/ggml/check.hpp"
#include "common/ggml/dequantize.hpp"
#include "common/ggml/quantize.hpp"
#include "common/testing/driver.hpp"

namespace loadstone::gguf {
namespace {

using common::testing::Answer;
using common::testing::Driver;
using common::testing::Json;
using common::testing::Produced;
using common::testing::Random;
using common::testing::Refusal;
using common::testing::TestLayer;

constexpr uint32_t dtype_of(ggml::Type type) { return LS_DTYPE_GGML + uint32_t{type}; }

/// Random blocks with finite scales.
std::vector<char> blocks_of(ggml::Type type, uint64_t rows, uint64_t in, uint32_t seed) {
  const ggml::TypeInfo& info = *ggml::find_type(type);
  Random random(seed);
  std::vector<char> out(rows * in / info.elems * info.nbytes);
  for (size_t at = 0; at < out.size(); at += info.nbytes) {
    auto* block = reinterpret_cast<uint8_t*>(&out[at]);
    do {
      for (uint32_t i = 0; i < info.nbytes; ++i)
        block[i] = static_cast<uint8_t>(random.bits() >> 9);
    } while (ggml::first_bad_scale(type, block, 1) == 0);
  }
  return out;
}

std::vector<float> decoded(ggml::Type type, const std::vector<char>& blocks) {
  const ggml::TypeInfo& info = *ggml::find_type(type);
  std::vector<float> out(blocks.size() / info.nbytes * info.elems);
  ggml::dequantizer(type, ggml::Stores::cached, common::Cpu::scalar)(
      reinterpret_cast<const uint8_t*>(blocks.data()), blocks.size() / info.nbytes, out.data());
  return out;
}

TestLayer single(ggml::Type type, uint64_t out, uint64_t in, uint32_t seed = 1) {
  TestLayer layer;
  layer.out = out;
  layer.in = in;
  layer.part("linear", 0, out);
  layer.tensor("weight", dtype_of(type), {out, in}, blocks_of(type, out, in, seed));
  return layer;
}

/// to_q, to_k and to_v of one type each.
TestLayer fused(ggml::Type q, ggml::Type k, ggml::Type v, std::vector<float>* truth) {
  TestLayer layer;
  layer.out = 40;
  layer.in = 256;
  const ggml::Type types[] = {q, k, v};
  const uint64_t rows[] = {16, 8, 16};
  for (uint32_t i = 0, begin = 0; i < 3; begin += static_cast<uint32_t>(rows[i]), ++i) {
    const auto blocks = blocks_of(types[i], rows[i], 256, i + 5);
    layer.part("to_" + std::to_string(i), begin, rows[i]);
    layer.tensor("weight", dtype_of(types[i]), {rows[i], 256}, blocks, i);
    const auto floats = decoded(types[i], blocks);
    truth->insert(truth->end(), floats.begin(), floats.end());
  }
  return layer;
}

void expect_same(const std::vector<float>& found, const std::vector<float>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  EXPECT_EQ(std::memcmp(found.data(), wanted.data(), found.size() * sizeof(float)), 0);
}

std::string refusal_of(Driver& driver, TestLayer& layer) {
  try {
    const Answer answer = driver.plan(layer);
    return answer.work.verdict == LS_VERDICT_UNSUPPORTED ? answer.reason : "planned";
  } catch (const Refusal& refusal) {
    return refusal.what();
  }
}

class Gguf : public ::testing::Test {
 protected:
  Gguf() : driver("gguf") { driver.configure(Json::object()); }
  Driver driver;
};

TEST_F(Gguf, PartsOfOneTypeShareOneStoredTensor) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ4_K, ggml::kQ4_K, ggml::kQ4_K, &truth);
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.stored_names, std::vector<std::string>{"weight"});
  EXPECT_EQ(produced.answer.kernel, "gguf_q4_k_float32");
  expect_same(driver.dequantize(layer, produced, 0, 40, 256), truth);
}

TEST_F(Gguf, PartsOfOneLayerMayDifferInType) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ4_K, ggml::kQ6_K, ggml::kIQ3_S, &truth);
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.stored.size(), 3u);
  EXPECT_EQ(produced.answer.reason, "Q4_K, Q6_K and IQ3_S in the file");
  expect_same(driver.dequantize(layer, produced, 0, 40, 256), truth);
  // A range across the parts.
  expect_same(driver.dequantize(layer, produced, 13, 14, 256),
              {truth.begin() + 13 * 256, truth.begin() + 27 * 256});
}

TEST_F(Gguf, ApplyIsTheProductForFewRowsAndMany) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ5_K, ggml::kQ8_0, ggml::kTQ1_0, &truth);
  Produced produced = driver.produce(layer);
  Random random(2);
  for (const uint64_t m : {1u, 2u, 4u, 5u, 9u}) {
    std::vector<float> x(m * 256), bias(40);
    for (float& value : x) value = random.uniform();
    for (float& value : bias) value = random.uniform();
    Driver::Run run;
    run.m = m;
    run.k = 256;
    run.n = 40;
    run.x = x.data();
    run.bias = bias.data();
    const auto y = driver.apply(layer, produced, run);
    for (uint64_t i = 0; i < m; ++i) {
      for (uint64_t n = 0; n < 40; ++n) {
        double sum = bias[n], magnitude = std::abs(bias[n]);
        for (uint64_t k = 0; k < 256; ++k) {
          const double term = static_cast<double>(x[i * 256 + k]) * truth[n * 256 + k];
          sum += term;
          magnitude += std::abs(term);
        }
        ASSERT_LE(std::abs(y[i * 40 + n] - sum), 264 * 0x1p-24 * magnitude) << m << " rows";
      }
    }
  }
}

TEST_F(Gguf, AnEmbeddingsRowsAreGathered) {
  TestLayer layer = single(ggml::kQ6_K, 10, 256);
  layer.kind = LS_KIND_GATHER;
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.kernel, "gguf_q6_k_rows");
  const auto weight = driver.dequantize(layer, produced, 0, 10, 256);
  const int64_t rows[] = {9, 0, 9};
  Driver::Run run;
  run.x_dtype = LS_DTYPE_I64;
  run.x = rows;
  run.m = 3;
  run.k = 1;
  run.n = 256;
  const auto y = driver.apply(layer, produced, run);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(std::memcmp(&y[i * 256], &weight[static_cast<size_t>(rows[i]) * 256], 1024), 0);
  }
}

TEST_F(Gguf, ALayerThatARuleKeepsIsDecoded) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ4_K, ggml::kQ6_K, ggml::kQ2_K, &truth);
  layer.want = LS_WANT_DECODE;
  layer.load_dtype = LS_DTYPE_F32;
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.work.verdict, uint32_t{LS_VERDICT_DECODE});
  expect_same(produced.named("weight").as<float>(), truth);
}

TEST_F(Gguf, UnquantizedModulesAreDecodedAndNamed) {
  driver.configure({{"unquantized_modules", {"to_0", "blocks.0"}}});
  TestLayer layer = single(ggml::kQ4_0, 32, 64);
  EXPECT_EQ(driver.ignored(layer), "blocks.0");
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_DECODE});
  EXPECT_EQ(answer.reason, "unquantized_modules entry \"blocks.0\"");
}

TEST_F(Gguf, PlainLayersOfAFileAreKept) {
  TestLayer layer;
  layer.out = 2;
  layer.in = 8;
  layer.part("linear", 0, 2);
  layer.tensor("weight", LS_DTYPE_F16, {2, 8}, std::vector<uint16_t>(16));
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_KEEP});
  EXPECT_EQ(answer.reason, "F16 in the file, not quantized there");
}

TEST_F(Gguf, LoneQuantizedTensorsBecomeFloats) {
  TestLayer layer;
  layer.kind = LS_KIND_OTHER;
  layer.load_dtype = LS_DTYPE_F32;
  layer.part("pad_token", 0, 0);
  const auto blocks = blocks_of(ggml::kQ5_1, 1, 32, 3);
  layer.tensor("", dtype_of(ggml::kQ5_1), {1, 32}, blocks);
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.work.verdict, uint32_t{LS_VERDICT_DECODE});
  expect_same(produced.named("weight").as<float>(), decoded(ggml::kQ5_1, blocks));
}

TEST_F(Gguf, ExpertsInOneTensorAreGroups) {
  TestLayer layer;
  layer.kind = LS_KIND_GROUPED;
  layer.groups = 3;
  layer.out = 4;
  layer.in = 64;
  const auto blocks = blocks_of(ggml::kQ4_0, 12, 64, 8);
  layer.part("experts", 0, 4);
  layer.tensor("weight", dtype_of(ggml::kQ4_0), {3, 4, 64}, blocks);
  Produced produced = driver.produce(layer);
  const auto truth = decoded(ggml::kQ4_0, blocks);
  for (uint32_t group = 0; group < 3; ++group) {
    expect_same(driver.dequantize(layer, produced, 1, 3, 64, group),
                {truth.begin() + (group * 4 + 1) * 64, truth.begin() + (group + 1) * 256});
  }
}

TEST_F(Gguf, SavesEachPartInItsOwnType) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ4_K, ggml::kQ6_K, ggml::kQ4_K, &truth);
  Produced produced = driver.produce(layer);
  const auto saved = driver.save(layer, produced);
  ASSERT_EQ(saved.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(saved[i].name, "weight");
    EXPECT_EQ(saved[i].shape.dtype, layer.sources()[i].dtype);
    EXPECT_EQ(saved[i].bytes, layer.sources()[i].bytes);
  }
}

TEST_F(Gguf, TypesWithoutADecoderAreRefusedByName) {
  for (const auto& [type, name] :
       {std::pair{ggml::kQ8_1, "Q8_1"}, {ggml::kQ8_K, "Q8_K"}, {ggml::kQ1_0, "Q1_0"}}) {
    TestLayer layer;
    layer.out = 2;
    layer.in = 256;
    layer.part("linear", 0, 2);
    layer.tensor("weight", dtype_of(type), {2, 256}, std::vector<char>(700));
    EXPECT_EQ(refusal_of(driver, layer),
              "gguf type not supported: \"weight\" (part 0): found " + std::string(name) +
                  ", expected a type with a published decoder (Q4_0 … Q8_0, K, IQ, TQ, MXFP4, "
                  "NVFP4) or F32, F16, BF16");
  }
}

TEST_F(Gguf, S23_RowsAreWholeBlocks) {
  TestLayer layer = single(ggml::kQ4_K, 2, 256);
  layer.in = 100;
  layer.sources()[0].shape = {2, 100};
  EXPECT_EQ(refusal_of(driver, layer),
            "gguf tensor rejected: \"weight\" (part 0): found 100 elements a row, expected a "
            "multiple of 256 for Q4_K");
}

TEST_F(Gguf, WidthsOfPartsAgree) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ4_0, ggml::kQ4_0, ggml::kQ4_0, &truth);
  layer.sources()[1].shape = {8, 128};
  EXPECT_EQ(refusal_of(driver, layer),
            "gguf tensor rejected: \"weight\" (part 1): found 128 elements a row, expected 256");
}

// Scales lie in the blocks: what can be absent is a part's weight.
TEST_F(Gguf, S27_APartWithoutItsWeightIsNamed) {
  std::vector<float> truth;
  TestLayer layer = fused(ggml::kQ4_0, ggml::kQ4_0, ggml::kQ4_0, &truth);
  layer.sources().erase(layer.sources().begin() + 1);
  EXPECT_EQ(refusal_of(driver, layer), "tensor missing: to_1: expected \"weight\"");
}

TEST_F(Gguf, S28_WeightsOfAnotherShapeOrDtypeShowBoth) {
  struct Case {
    uint32_t dtype;
    std::vector<uint64_t> shape;
    std::string text;
  };
  const uint32_t q8_0 = dtype_of(ggml::kQ8_0);
  const std::string plain =
      ", expected a type with a published decoder (Q4_0 … Q8_0, K, IQ, TQ, MXFP4, NVFP4) or F32, "
      "F16, BF16";
  const Case cases[] = {
      {q8_0, {3, 64}, "found 3 rows in 2 axes, expected rows [0, +4) of a matrix"},
      {q8_0, {256}, "found 1 rows in 1 axes, expected rows [0, +4) of a matrix"},
      {q8_0, {1, 1, 4, 64}, "found 4 rows in 4 axes, expected rows [0, +4) of a matrix"},
      {q8_0, {4, 32}, "found 32 elements a row, expected 64"},
      {LS_DTYPE_I8, {4, 64}, "found dtype " + std::to_string(LS_DTYPE_I8) + plain},
      {LS_DTYPE_F8_E4M3, {4, 64}, "found dtype " + std::to_string(LS_DTYPE_F8_E4M3) + plain},
      {LS_DTYPE_GGML + 4, {4, 64}, "found dtype " + std::to_string(LS_DTYPE_GGML + 4) + plain},
  };
  for (const Case& one : cases) {
    TestLayer layer = single(ggml::kQ8_0, 4, 64);
    layer.sources()[0].dtype = one.dtype;
    layer.sources()[0].shape = one.shape;
    EXPECT_THAT(refusal_of(driver, layer), ::testing::HasSubstr(one.text));
    EXPECT_THAT(refusal_of(driver, layer), ::testing::HasSubstr("\"weight\" (part 0)"));
  }
}

std::string production_refusal(Driver& driver, TestLayer& layer) {
  try {
    driver.produce(layer);
    return "produced";
  } catch (const Refusal& refusal) {
    return refusal.what();
  }
}

TEST_F(Gguf, S29_ScalesThatAreNotFiniteAreRefused) {
  TestLayer layer = single(ggml::kQ4_0, 4, 64);
  layer.sources()[0].bytes[18 * 5] = 0;
  layer.sources()[0].bytes[18 * 5 + 1] = 0x7c;
  EXPECT_EQ(production_refusal(driver, layer),
            "scale is not finite: \"weight\" (part 0): row 2, block 1 of Q4_0");
}

TEST_F(Gguf, Mxfp4ScalesMayBeLargeWhereNoCodeLeavesFloat32) {
  TestLayer layer = single(ggml::kMXFP4, 2, 64);
  char* block = layer.sources()[0].bytes.data() + 17 * 3;  // row 1, block 1
  std::fill_n(block, 17, '\x33');                          // 1.5
  block[0] = '\xff';                                       // 2^127, doubled levels
  EXPECT_EQ(production_refusal(driver, layer),
            "weight is not finite: \"weight\" (part 0): row 1, block 1 of MXFP4");
  block[0] = '\xfe';
  EXPECT_EQ(production_refusal(driver, layer), "produced");
}

TEST_F(Gguf, S29_EveryFloat16OfABlockMustBeFinite) {
  struct Case {
    ggml::Type type;
    std::vector<size_t> places;  // of float16 numbers in a block
  };
  const Case cases[] = {
      {ggml::kQ4_1, {0, 2}},   {ggml::kQ5_0, {0}},    {ggml::kQ5_1, {0, 2}}, {ggml::kQ8_0, {0}},
      {ggml::kQ2_K, {80, 82}}, {ggml::kQ3_K, {108}},  {ggml::kQ4_K, {0, 2}}, {ggml::kQ5_K, {0, 2}},
      {ggml::kQ6_K, {208}},    {ggml::kIQ2_XXS, {0}}, {ggml::kIQ2_XS, {0}},  {ggml::kIQ2_S, {0}},
      {ggml::kIQ3_XXS, {0}},   {ggml::kIQ3_S, {0}},   {ggml::kIQ1_S, {0}},   {ggml::kIQ4_NL, {0}},
      {ggml::kIQ4_XS, {0}},    {ggml::kTQ1_0, {52}},  {ggml::kTQ2_0, {64}},
  };
  for (const Case& one : cases) {
    const ggml::TypeInfo& info = *ggml::find_type(one.type);
    for (const size_t place : one.places) {
      for (const uint16_t bits : {0x7c00, 0xfc00, 0x7e00, 0x7c01}) {  // infinities, NaN
        TestLayer layer = single(one.type, 2, 256);
        char* block = layer.sources()[0].bytes.data() + (256 / info.elems) * info.nbytes;
        std::memcpy(block + place, &bits, sizeof bits);
        EXPECT_EQ(production_refusal(driver, layer),
                  "scale is not finite: \"weight\" (part 0): row 1, block 0 of " +
                      std::string(info.name));
      }
      // Negative and zero scales are numbers: Q4_0's sign is that of its largest value.
      for (const uint16_t bits : {0x0000, 0x8000, 0xbc00}) {
        TestLayer layer = single(one.type, 2, 256);
        std::memcpy(layer.sources()[0].bytes.data() + place, &bits, sizeof bits);
        EXPECT_EQ(production_refusal(driver, layer), "produced");
      }
    }
  }
}

TEST_F(Gguf, S29_EveryScaleByteOfMxfp4AndNvfp4IsANumber) {
  for (const ggml::Type type : {ggml::kMXFP4, ggml::kNVFP4}) {
    for (int byte = 0; byte < 256; ++byte) {
      TestLayer layer = single(type, 1, 64);
      layer.load_dtype = LS_DTYPE_F32;
      auto& bytes = layer.sources()[0].bytes;
      if (type == ggml::kMXFP4) std::fill_n(bytes.begin(), 17, '\x91');  // ±0.5: 2^127 at most
      std::fill_n(bytes.begin(), type == ggml::kMXFP4 ? 1 : 4, static_cast<char>(byte));
      Produced produced = driver.produce(layer);
      for (const float value : driver.dequantize(layer, produced, 0, 1, 64)) {
        ASSERT_TRUE(std::isfinite(value)) << byte;
      }
    }
  }
}

// No permutations or zero points here; the indices are those of the grids.
TEST_F(Gguf, S30_EveryIndexLeadsIntoItsGrid) {
  for (const ggml::TypeInfo& info : ggml::kTypes) {
    if (!info.decodes || info.elems == 1) continue;
    for (const int fill : {0x00, 0x55, 0xaa, 0xff}) {
      TestLayer layer = single(info.type, 1, 256);
      auto& bytes = layer.sources()[0].bytes;
      std::vector<char> filled(bytes.size(), static_cast<char>(fill));
      const auto scalar = decoded(info.type, filled);
      std::vector<float> best(scalar.size());
      ggml::dequantizer(info.type)(reinterpret_cast<const uint8_t*>(filled.data()),
                                   filled.size() / info.nbytes, best.data());
      for (size_t i = 0; i < best.size(); ++i) {
        ASSERT_TRUE(best[i] == scalar[i] || (std::isnan(best[i]) && std::isnan(scalar[i])))
            << info.name << " " << i;
      }
    }
  }
}

TEST_F(Gguf, S32_RowsAndOffsetsBeyond32BitsArePlannedExactly) {
  const uint64_t rows = uint64_t{1} << 33;
  TestLayer layer;
  layer.in = 64;
  layer.out = 2 * rows;
  for (uint32_t i = 0; i < 2; ++i) {
    layer.part("to_" + std::to_string(i), i * rows, rows, 0, i, rows + i);
    layer.tensor("weight", dtype_of(ggml::kQ8_0), {rows + i, 64}, std::vector<char>(), i);
  }
  const Answer answer = driver.plan(layer);
  ASSERT_EQ(answer.identities.size(), 2u);
  EXPECT_EQ(answer.stored[0].shape[0], 2 * rows);
  EXPECT_EQ(answer.identities[1].src_offset, 68u);
  EXPECT_EQ(answer.identities[1].dst_offset, rows * 68);
  EXPECT_EQ(answer.identities[1].rows, rows);
}

TestLayer floats(const std::vector<float>& values, uint64_t in) {
  TestLayer layer;
  layer.out = values.size() / in;
  layer.in = in;
  layer.part("linear", 0, layer.out);
  layer.tensor("weight", LS_DTYPE_F32, {layer.out, in}, values);
  return layer;
}

TEST_F(Gguf, S33_WeightsThatAreNotFiniteAreRefused) {
  for (const char* type : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"}) {
    driver.configure({{"type", type}});
    for (const float value : {INFINITY, -INFINITY, NAN}) {
      std::vector<float> values(3 * 64, 1.0f);
      values[64 + 5] = value;
      TestLayer layer = floats(values, 64);
      EXPECT_EQ(production_refusal(driver, layer),
                "weight is not finite: \"weight\" (part 0): row 1, column 5");
    }
  }
}

TEST_F(Gguf, S33_WeightsBeyondAFloat16ScaleAreRefused) {
  for (const char* type : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    driver.configure({{"type", type}});
    std::vector<float> values(2 * 64, 1.0f);
    values[64 + 40] = 3e38f;
    TestLayer layer = floats(values, 64);
    EXPECT_EQ(production_refusal(driver, layer),
              "weight is too large for " + std::string(type) +
                  ": \"weight\" (part 0): row 1, block 1: expected a scale that float16 holds");
  }
}

TEST_F(Gguf, S33_ZeroAndSubnormalRowsAreNumbersAgain) {
  for (const char* type : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0", "MXFP4"}) {
    driver.configure({{"type", type}});
    std::vector<float> values(3 * 256, 0.0f);
    for (size_t i = 0; i < 256; ++i) {
      values[256 + i] = i % 3 == 0 ? 1e-45f : -1e-45f;  // the smallest there is
      values[512 + i] = i % 2 == 0 ? 1e-39f : 0.0f;
    }
    TestLayer layer = floats(values, 256);
    Produced produced = driver.produce(layer);  // cut at random, on two threads
    const auto weight = driver.dequantize(layer, produced, 0, 3, 256);
    for (size_t i = 0; i < weight.size(); ++i) {
      ASSERT_TRUE(std::isfinite(weight[i])) << type;
      ASSERT_TRUE(i >= 256 || weight[i] == 0.0f) << type;
      ASSERT_LE(std::abs(weight[i] - values[i]), 1e-7f) << type;
    }
    std::vector<uint8_t> blocks(produced.named("weight").as<uint8_t>());
    std::vector<uint8_t> whole(blocks.size());
    const ggml::TypeInfo& info = *ggml::find_type(std::string_view(type));
    ggml::quantizer(info.type)(values.data(), values.size() / info.elems, whole.data());
    EXPECT_EQ(blocks, whole) << type;
  }
}

TEST_F(Gguf, FloatWeightsNeedWholeBlocksToo) {
  driver.configure({{"type", "Q8_0"}});
  TestLayer layer;
  layer.out = 2;
  layer.in = 40;
  layer.part("linear", 0, 2);
  layer.tensor("weight", LS_DTYPE_F32, {2, 40}, std::vector<float>(80));
  EXPECT_EQ(refusal_of(driver, layer),
            "found 40 elements a row, expected a multiple of 32 for Q8_0");
}

TEST_F(Gguf, ATypeIsForFloatsAndNoOtherBlocks) {
  driver.configure({{"type", "Q8_0"}});
  TestLayer layer = single(ggml::kQ4_0, 2, 64);
  EXPECT_EQ(refusal_of(driver, layer),
            "found Q4_0 in the file, expected floats to make Q8_0 of (or that type)");
  TestLayer same = single(ggml::kQ8_0, 2, 64);
  EXPECT_EQ(refusal_of(driver, same), "planned");
}

TEST_F(Gguf, AnEmptyModelNameIsRefused) {
  EXPECT_THROW(driver.configure({{"gguf_model", ""}}), Refusal);
}

TEST_F(Gguf, ATypeBesideAFileIsRefused) {
  try {
    driver.configure({{"gguf_model", "a/b.gguf"}, {"type", "Q8_0"}});
    FAIL() << "accepted";
  } catch (const Refusal& refusal) {
    EXPECT_STREQ(refusal.what(),
                 "type: found Q8_0 beside gguf_model, expected one of them (a file's types are its "
                 "own)");
  }
}

}  // namespace
}  // namespace loadstone::gguf
