#include <gtest/gtest.h>

#include "common/ggml/check.hpp"
#include "common/ggml/dequantize.hpp"
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

TEST_F(Gguf, S29_ScalesThatAreNotFiniteAreRefused) {
  TestLayer layer = single(ggml::kQ4_0, 4, 64);
  layer.sources()[0].bytes[18 * 5] = 0;
  layer.sources()[0].bytes[18 * 5 + 1] = 0x7c;
  try {
    driver.produce(layer);
    FAIL() << "accepted";
  } catch (const Refusal& refusal) {
    EXPECT_STREQ(refusal.what(),
                 "scale is not finite: \"weight\" (part 0): row 2, block 1 of Q4_0");
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

TEST_F(Gguf, AnEmptyModelNameIsRefused) {
  EXPECT_THROW(driver.configure({{"gguf_model", ""}}), Refusal);
}

}  // namespace
}  // namespace loadstone::gguf
