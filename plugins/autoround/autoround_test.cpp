#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/codecs/half.hpp"
#include "common/int_packs/int_packs.hpp"
#include "common/testing/driver.hpp"

namespace loadstone::autoround {
namespace {

using common::testing::Answer;
using common::testing::Driver;
using common::testing::Json;
using common::testing::Produced;
using common::testing::Random;
using common::testing::Refusal;
using common::testing::TestLayer;

/// A layer of packed parts with random content, and what its weight is.
struct Packed {
  uint32_t bits = 4;
  uint64_t in = 128, group_size = 64;
  bool awq = false;
  uint32_t zero_bias = 1;
  uint32_t scale_dtype = LS_DTYPE_F16;
  std::vector<uint64_t> rows = {64};
  std::vector<int32_t> g_idx = {};  // for every part
  TestLayer layer = {};
  std::vector<float> truth = {};

  Packed& make() {
    layer.in = 0;  // as the graph leaves it
    layer.load_dtype = LS_DTYPE_F32;
    Random random(bits * 7 + static_cast<uint32_t>(in));
    for (uint32_t part = 0; part < rows.size(); ++part) add(part, random);
    return *this;
  }

 private:
  template <typename T>
  static std::vector<T> bits_of(uint64_t count, Random& random) {
    std::vector<T> out(count);
    for (T& word : out) word = static_cast<T>(random.bits());
    return out;
  }

  void add(uint32_t part, Random& random) {
    const uint64_t n = rows[part], groups = (in + group_size - 1) / group_size;
    const auto qweight = bits_of<uint32_t>(n * in * bits / 32, random);
    const auto qzeros = bits_of<uint32_t>(groups * n * bits / 32, random);
    std::vector<uint16_t> scales;
    for (uint64_t i = 0; i < groups * n; ++i) {
      const float scale = random.uniform() * 0.1f + 0.2f * (random.bits() % 2 != 0 ? 1.0f : -1.0f);
      scales.push_back(scale_dtype == LS_DTYPE_BF16 ? common::bf16_encode(scale)
                                                    : common::f16_encode(scale));
    }
    layer.part("to_" + std::to_string(part), layer.out, n);
    layer.out += n;
    const uint64_t weight_rows = awq ? in : in * bits / 32;
    layer.tensor("qweight", LS_DTYPE_I32, {weight_rows, awq ? n / 8 : n}, qweight, part);
    layer.tensor("qzeros", LS_DTYPE_I32, {groups, n * bits / 32}, qzeros, part);
    layer.tensor("scales", scale_dtype, {groups, n}, scales, part);
    if (!g_idx.empty()) layer.tensor("g_idx", LS_DTYPE_I32, {in}, g_idx, part);

    int_packs::Matrix matrix;
    matrix.packing = awq ? int_packs::Packing::awq : int_packs::Packing::gptq;
    matrix.bits = bits;
    matrix.zero_bias = zero_bias;
    matrix.scale_dtype = scale_dtype;
    matrix.n = n;
    matrix.k = in;
    matrix.groups = groups;
    matrix.group_size = group_size;
    matrix.qweight = qweight.data();
    matrix.qzeros = qzeros.data();
    matrix.scales = scales.data();
    if (!g_idx.empty()) matrix.g_idx = g_idx.data();
    std::vector<float> floats(n * in);
    int_packs::dequantize(matrix, 0, n, floats.data(), common::Cpu::scalar);
    truth.insert(truth.end(), floats.begin(), floats.end());
  }
};

void expect_same(const std::vector<float>& found, const std::vector<float>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  EXPECT_EQ(std::memcmp(found.data(), wanted.data(), found.size() * sizeof(float)), 0);
}

std::string refusal_of(Driver& driver, TestLayer& layer) {
  try {
    const Answer answer = driver.plan(layer);
    if (answer.work.verdict == LS_VERDICT_UNSUPPORTED) return answer.reason;
    driver.produce(layer);
    return "accepted";
  } catch (const Refusal& refusal) {
    return refusal.what();
  }
}

std::string config_refusal(Driver& driver, const Json& fields) {
  try {
    driver.configure(fields);
    return "accepted";
  } catch (const Refusal& refusal) {
    EXPECT_EQ(refusal.status, LS_INVALID_CONFIG);
    return refusal.what();
  }
}

class AutoRound : public ::testing::Test {
 protected:
  AutoRound() : driver("autoround") {}
  void w4(uint64_t group_size = 64) { driver.configure({{"bits", 4}, {"group_size", group_size}}); }
  Driver driver;
};

TEST_F(AutoRound, EveryPackingDequantizesAppliesAndDecodes) {
  for (const auto& [packing, bias, awq] : {std::tuple{"auto_round:auto_gptq", 1u, false},
                                           {"auto_round", 0u, false},
                                           {"auto_round:gptqmodel", 0u, false},
                                           {"auto_round:auto_awq", 0u, true}}) {
    for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
      if (awq && bits != 4) continue;
      SCOPED_TRACE(std::string(packing) + " " + std::to_string(bits));
      Packed packed{.bits = bits, .awq = awq, .zero_bias = bias, .rows = {64, 32, 96}};
      packed.make();
      driver.configure({{"bits", bits}, {"group_size", 64}, {"packing_format", packing}});
      Produced produced = driver.produce(packed.layer);
      EXPECT_EQ(produced.answer.work.in, 128u);
      expect_same(driver.dequantize(packed.layer, produced, 0, 192, 128), packed.truth);
      expect_same(driver.dequantize(packed.layer, produced, 61, 9, 128),
                  {packed.truth.begin() + 61 * 128, packed.truth.begin() + 70 * 128});
      packed.layer.want = LS_WANT_DECODE;
      Produced decoded = driver.produce(packed.layer);
      expect_same(decoded.named("weight").as<float>(), packed.truth);
    }
  }
}

TEST_F(AutoRound, ApplyIsTheProductForFewRowsAndMany) {
  Packed packed{.bits = 3, .in = 192, .group_size = 128, .rows = {32, 64}};
  packed.make();
  driver.configure({{"bits", 3}, {"group_size", 128}});
  Produced produced = driver.produce(packed.layer);
  Random random(4);
  for (const uint64_t m : {1u, 3u, 4u, 5u, 8u}) {
    std::vector<float> x(m * 192), bias(96);
    for (float& value : x) value = random.uniform();
    for (float& value : bias) value = random.uniform();
    Driver::Run run;
    run.m = m;
    run.k = 192;
    run.n = 96;
    run.x = x.data();
    run.bias = bias.data();
    const auto y = driver.apply(packed.layer, produced, run);
    for (uint64_t i = 0; i < m; ++i) {
      for (uint64_t n = 0; n < 96; ++n) {
        double sum = bias[n], magnitude = std::abs(bias[n]);
        for (uint64_t k = 0; k < 192; ++k) {
          const double term = static_cast<double>(x[i * 192 + k]) * packed.truth[n * 192 + k];
          sum += term;
          magnitude += std::abs(term);
        }
        ASSERT_LE(std::abs(y[i * 96 + n] - sum), 200 * 0x1p-24 * magnitude) << m << " rows";
      }
    }
  }
}

TEST_F(AutoRound, ScalesMayBeBf16) {
  Packed packed{.scale_dtype = LS_DTYPE_BF16};
  packed.make();
  w4();
  Produced produced = driver.produce(packed.layer);
  expect_same(driver.dequantize(packed.layer, produced, 0, 64, 128), packed.truth);
}

TEST_F(AutoRound, OneGroupARowAndGroupsLongerThanARow) {
  for (const int64_t declared : {-1, 4096}) {
    Packed packed{.group_size = 128};
    packed.make();
    driver.configure({{"bits", 4}, {"group_size", declared}});
    Produced produced = driver.produce(packed.layer);
    expect_same(driver.dequantize(packed.layer, produced, 0, 64, 128), packed.truth);
  }
}

TEST_F(AutoRound, PartsMayBeRowsOfALargerModule) {
  Packed whole{.rows = {96}};
  whole.make();
  TestLayer slice;
  slice.out = 64;
  slice.part("qkv", 0, 64, 0, 32, 96);
  for (const auto& source : whole.layer.sources()) {
    slice.tensor(source.name, source.dtype, source.shape, source.bytes);
  }
  w4();
  Produced produced = driver.produce(slice);
  expect_same(driver.dequantize(slice, produced, 0, 64, 128),
              {whole.truth.begin() + 32 * 128, whole.truth.end()});
}

TEST_F(AutoRound, AShuffledGroupIndexIsStoredAndUsed) {
  Packed packed{.rows = {64, 32}};
  for (int32_t k = 0; k < 128; ++k) packed.g_idx.push_back(k % 2);
  packed.make();
  packed.layer.show_values();
  driver.configure({{"bits", 4}, {"group_size", 64}, {"desc_act", true}});
  Produced produced = driver.produce(packed.layer);
  EXPECT_EQ(produced.answer.stored_names.back(), "g_idx");
  expect_same(driver.dequantize(packed.layer, produced, 0, 96, 128), packed.truth);
  EXPECT_EQ(driver.save(packed.layer, produced).size(), 8u);
  packed.layer.want = LS_WANT_DECODE;
  Produced decoded = driver.produce(packed.layer);
  expect_same(decoded.named("weight").as<float>(), packed.truth);
}

TEST_F(AutoRound, ATrivialGroupIndexIsUnusedWithAReason) {
  Packed packed;
  for (int32_t k = 0; k < 128; ++k) packed.g_idx.push_back(k / 64);
  packed.make();
  w4();
  const Answer asking = driver.plan(packed.layer);
  ASSERT_EQ(asking.sources.size(), 1u);
  EXPECT_EQ(asking.sources[0].mode, uint32_t{LS_SOURCE_NEEDS_VALUE});
  packed.layer.show_values();
  const Answer answer = driver.plan(packed.layer);
  EXPECT_EQ(answer.unused.at(3), "trivial: column / group_size");
  EXPECT_EQ(answer.stored.size(), 3u);
}

TEST_F(AutoRound, S30_GroupIndexOutOfRange) {
  for (const int32_t bad : {2, -1}) {
    Packed packed;
    for (int32_t k = 0; k < 128; ++k) packed.g_idx.push_back(k / 64);
    packed.make();
    auto& bytes = packed.layer.sources()[3].bytes;
    std::memcpy(&bytes[4 * 77], &bad, 4);
    packed.layer.show_values();
    w4();
    EXPECT_EQ(refusal_of(driver, packed.layer),
              "group index out of range: \"g_idx\" (part 0): found " + std::to_string(bad) +
                  " at column 77, expected 0 to 1");
  }
}

TEST_F(AutoRound, PartsOfOtherKindsAreSplit) {
  Packed packed{.rows = {32, 32}};
  packed.make();
  driver.configure({{"bits", 4}, {"group_size", 64}, {"extra_config", {{"to_1", {{"bits", 8}}}}}});
  EXPECT_EQ(driver.plan(packed.layer).work.verdict, uint32_t{LS_VERDICT_SPLIT});

  TestLayer mixed;
  mixed.out = 64;
  mixed.part("to_0", 0, 32);
  mixed.part("to_1", 32, 32);
  for (size_t i = 0; i < 3; ++i) {
    const auto& source = packed.layer.sources()[i];
    mixed.tensor(source.name, source.dtype, source.shape, source.bytes, 0);
  }
  mixed.tensor("weight", LS_DTYPE_BF16, {32, 128}, std::vector<uint16_t>(32 * 128), 1);
  w4();
  const Answer answer = driver.plan(mixed);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_SPLIT});
  EXPECT_EQ(answer.reason, "some parts are packed, some stored as they were");
}

TEST_F(AutoRound, PlainLayersAreKeptWhereTheCheckpointDeclares) {
  TestLayer plain;
  plain.out = 32;
  plain.in = 64;
  plain.part("lm_head", 0, 32);
  plain.tensor("weight", LS_DTYPE_BF16, {32, 64}, std::vector<uint16_t>(32 * 64));
  w4();
  EXPECT_EQ(refusal_of(driver, plain),
            "found plain weights, expected qweight, qzeros and scales: such checkpoints are read, "
            "not made");
  driver.configure({{"bits", 4}, {"group_size", 64}, {"is_checkpoint_autoround_serialized", true}});
  const Answer answer = driver.plan(plain);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_KEEP});
  EXPECT_EQ(answer.reason, "stored unquantized in the checkpoint");
}

TEST_F(AutoRound, SavesEachPartAsItCame) {
  Packed packed{.bits = 3, .rows = {32, 64}};
  packed.make();
  driver.configure({{"bits", 3}, {"group_size", 64}});
  Produced produced = driver.produce(packed.layer);
  const auto saved = driver.save(packed.layer, produced);
  ASSERT_EQ(saved.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    const auto& source = packed.layer.sources()[i];
    EXPECT_EQ(saved[i].name, source.name);
    EXPECT_EQ(saved[i].part, source.part);
    EXPECT_EQ(saved[i].bytes, source.bytes) << source.name;
    EXPECT_EQ(std::vector<uint64_t>(saved[i].shape.shape, saved[i].shape.shape + 2), source.shape);
  }
}

TEST_F(AutoRound, S27_AMissingZeroPointOrScaleIsNamed) {
  for (const char* missing : {"qzeros", "scales", "qweight"}) {
    Packed packed;
    packed.make();
    TestLayer layer;
    layer.out = 64;
    layer.part("to_0", 0, 64);
    for (const auto& source : packed.layer.sources()) {
      if (source.name != missing) {
        layer.tensor(source.name, source.dtype, source.shape, source.bytes);
      }
    }
    w4();
    EXPECT_EQ(refusal_of(driver, layer),
              "tensor missing: to_0: expected \"" + std::string(missing) + "\"");
  }
}

TEST_F(AutoRound, S28_ShapesThatContradictTheConfiguration) {
  struct Case {
    Json fields;
    const char* text;
  };
  const Case cases[] = {
      {{{"bits", 8}, {"group_size", 64}},
       "packed tensor rejected: \"scales\" (part 0): found [2, 64], expected [1, 64] for 8 bits, "
       "group_size 64, auto_round:auto_gptq"},
      {{{"bits", 4}, {"group_size", 32}},
       "packed tensor rejected: \"scales\" (part 0): found [2, 64], expected [4, 64] for 4 bits, "
       "group_size 32, auto_round:auto_gptq"},
      {{{"bits", 4}, {"group_size", 64}, {"packing_format", "auto_round:auto_awq"}},
       "packed tensor rejected: \"scales\" (part 0): found [2, 64], expected 512 columns, the rows "
       "of \"qweight\" (part 0) as auto_round:auto_awq"},
      {{{"bits", 3}, {"group_size", 64}},
       "packed tensor rejected: \"qweight\" (part 0): found [16, 64], expected whole columns of 3 "
       "bits"},
  };
  for (const Case& one : cases) {
    Packed packed;
    packed.make();
    driver.configure(one.fields);
    EXPECT_EQ(refusal_of(driver, packed.layer), one.text);
  }
}

TEST_F(AutoRound, S28_DtypesAndRanks) {
  Packed packed;
  packed.make();
  w4();
  packed.layer.sources()[0].dtype = LS_DTYPE_U8;
  EXPECT_EQ(refusal_of(driver, packed.layer),
            "packed tensor rejected: \"qweight\" (part 0): found dtype 2, expected I32");
  packed.layer.sources()[0].dtype = LS_DTYPE_I32;
  packed.layer.sources()[2].shape = {128};
  EXPECT_EQ(refusal_of(driver, packed.layer),
            "packed tensor rejected: \"scales\" (part 0): found [128], expected a matrix");
}

TEST_F(AutoRound, S29_ScalesThatAreNotFiniteOrZeroForOtherCodes) {
  for (const auto& [bits, text] :
       {std::pair<uint16_t, const char*>{0x7e00, "a value that isn't finite"},
        {0xfc00, "a value that isn't finite"},
        {0x8000, "zero for codes that aren't"}}) {
    for (const uint32_t want : {LS_WANT_QUANTIZE, LS_WANT_DECODE}) {
      Packed packed;
      packed.make();
      packed.layer.want = want;
      std::memcpy(&packed.layer.sources()[2].bytes[2 * (64 + 5)], &bits, 2);
      w4();
      EXPECT_EQ(refusal_of(driver, packed.layer),
                "scale rejected: \"scales\" (part 0): found " + std::string(text) + " at [1, 5]");
    }
  }
}

TEST_F(AutoRound, S29_ScalesWhoseProductsLeaveFloat32) {
  const uint16_t largest = 0xff7f;  // bfloat16: -3.39e38
  for (const uint32_t want : {LS_WANT_QUANTIZE, LS_WANT_DECODE}) {
    Packed packed;
    packed.scale_dtype = LS_DTYPE_BF16;
    packed.make();
    packed.layer.want = want;
    auto& sources = packed.layer.sources();
    std::fill(sources[0].bytes.begin(), sources[0].bytes.end(), static_cast<char>(0x89));
    std::fill(sources[1].bytes.begin(), sources[1].bytes.end(), static_cast<char>(0x77));
    std::memcpy(&sources[2].bytes[2 * (64 + 5)], &largest, 2);
    w4();
    driver.produce(packed.layer);  // levels are 0 and 1
    sources[0].bytes[4 * (15 * 64 + 5)] = static_cast<char>(0x8a);
    EXPECT_EQ(refusal_of(driver, packed.layer),
              "scale rejected: \"scales\" (part 0): found a value whose products leave float32 at "
              "[1, 5]");
  }
}

TEST_F(AutoRound, AZeroScaleIsFineWhereAllCodesAreTheirZeroPoint) {
  Packed packed;
  packed.make();
  auto& sources = packed.layer.sources();
  std::fill(sources[0].bytes.begin(), sources[0].bytes.end(), static_cast<char>(0x88));
  std::fill(sources[1].bytes.begin(), sources[1].bytes.end(), static_cast<char>(0x77));
  std::fill(sources[2].bytes.begin(), sources[2].bytes.end(), static_cast<char>(0));
  w4();
  Produced produced = driver.produce(packed.layer);
  for (const float value : driver.dequantize(packed.layer, produced, 0, 64, 128)) {
    ASSERT_EQ(value, 0.0f);
  }
}

TEST_F(AutoRound, S31_PackedTensorsWhereTheConfigurationKeeps) {
  Packed packed;
  packed.make();
  const char* text =
      "packed tensors rejected: found \"qweight\", expected \"weight\": the configuration leaves "
      "this layer as it was";
  driver.configure({{"bits", 4}, {"group_size", 64}, {"extra_config", {{"to_0", {{"bits", 16}}}}}});
  EXPECT_EQ(refusal_of(driver, packed.layer), text);
  driver.configure({{"bits", 4}, {"group_size", 64}, {"block_name_to_quantize", "blocks, more"}});
  EXPECT_EQ(refusal_of(driver, packed.layer), text);
  packed.layer.tensor("weight", LS_DTYPE_BF16, {64, 128}, std::vector<uint16_t>(64 * 128));
  w4();
  EXPECT_EQ(refusal_of(driver, packed.layer),
            "packed tensor rejected: \"weight\" (part 0): found it beside packed tensors, expected "
            "one of them");
}

TEST_F(AutoRound, RowsAndColumnsComeInMultiplesOf32) {
  Packed packed{.rows = {40}};
  packed.make();
  w4();
  EXPECT_EQ(refusal_of(driver, packed.layer), "found N = 40, expected a multiple of 32");
}

TEST_F(AutoRound, ExtraConfigGoesFromExactOverSuffixToRegex) {
  const Json extra = {{"b.0.to_0", {{"bits", 8}}},
                      {"to_0", {{"bits", 3}}},
                      {"0.to_1", {{"bits", 2}}},
                      {"to_1", {{"bits", 3}}},
                      {".*to_[12]$", {{"group_size", 32}}}};
  driver.configure({{"bits", 4}, {"group_size", 64}, {"extra_config", extra}});
  struct Case {
    const char* module;
    uint32_t bits;
    uint64_t group_size;
  };
  for (const Case& one : {Case{"b.0.to_0", 8, 64},
                          {"c.0.to_0", 3, 64},
                          {"b.0.to_1", 2, 64},
                          {"b.1.to_1", 3, 64},
                          {"b.0.to_2", 4, 32},
                          {"b.0.to_3", 4, 64}}) {
    Packed packed{.bits = one.bits, .group_size = one.group_size};
    packed.make();
    TestLayer layer;
    layer.out = 64;
    layer.part(one.module, 0, 64);
    for (const auto& source : packed.layer.sources()) {
      layer.tensor(source.name, source.dtype, source.shape, source.bytes);
    }
    SCOPED_TRACE(one.module);
    Produced produced = driver.produce(layer);
    expect_same(driver.dequantize(layer, produced, 0, 64, 128), packed.truth);
  }
}

TEST_F(AutoRound, ValuesThatNoCheckpointCanHave) {
  struct Case {
    Json fields;
    const char* text;
  };
  const Case cases[] = {
      {{{"bits", 4}, {"group_size", 0}},
       "group_size rejected: found 0, expected a positive number, or -1 for a row"},
      {{{"bits", 8}, {"group_size", 128}, {"packing_format", "auto_round:auto_awq"}},
       "bits rejected: found 8, expected 4 with packing_format auto_round:auto_awq"},
      {{{"bits", 4}, {"group_size", 64}, {"data_type", "mx_fp"}},
       "group_size rejected: found 64, expected 32 with data_type mx_fp"},
      {{{"bits", 2}, {"group_size", 32}, {"data_type", "mx_fp"}},
       "bits rejected: found 2, expected 4 or 8 with data_type mx_fp"},
      {{{"bits", 4}, {"group_size", 32}, {"data_type", "mx_fp"}},
       "packing_format rejected: found auto_round:auto_gptq, expected auto_round:llm_compressor "
       "with data_type mx_fp"},
      {{{"bits", 4}, {"group_size", 16}, {"data_type", "nv_fp"}},
       "packing_format rejected: found auto_round:auto_gptq, expected auto_round:llm_compressor "
       "with data_type nv_fp"},
      {{{"bits", 4}, {"group_size", 128}, {"data_type", "nv_fp"}},
       "group_size rejected: found 128, expected 16 with data_type nv_fp"},
      {{{"bits", 8}, {"group_size", 16}, {"data_type", "nv_fp"}},
       "bits rejected: found 8, expected 4 with data_type nv_fp"},
      {{{"bits", 4}, {"sym", false}, {"data_type", "nv_fp"}},
       "sym rejected: found false, expected true with data_type nv_fp"},
      {{{"bits", 4}, {"group_size", 128}, {"data_type", ""}},
       "data_type rejected: found \"\", expected int, nv_fp or mx_fp (the fp8 method "
       "reads such tensors)"},
      {{{"bits", 4}, {"group_size", 64}, {"extra_config", {{"a", {{"bit", 8}}}}}},
       "extra_config.a rejected: found unknown key \"bit\", expected bits, group_size or sym"},
      {{{"bits", 4}, {"group_size", 64}, {"extra_config", {{"a", 8}}}},
       "extra_config.a rejected: found 8, expected a map of bits, group_size and sym"},
      {{{"bits", 4}, {"group_size", 64}, {"extra_config", {{"a", {{"bits", 9}}}}}},
       "extra_config.a.bits rejected: found 9, expected 2 to 8, or 16 and more for a kept layer"},
      {{{"bits", 4}, {"group_size", 64}, {"extra_config", {{"a", {{"group_size", 0}}}}}},
       "extra_config.a.group_size rejected: found 0, expected a positive number, or -1 for a row"},
      {{{"bits", 4}, {"group_size", 64}, {"extra_config", Json::array()}},
       "extra_config rejected: found [], expected a map"},
      {{{"bits", 4}, {"group_size", 64}, {"block_name_to_quantize", 5}},
       "block_name_to_quantize rejected: found 5, expected a text or a list of texts"},
  };
  for (const Case& one : cases) EXPECT_EQ(config_refusal(driver, one.fields), one.text);
}

TEST_F(AutoRound, BitsAndGroupSizeAreNeededByPackedLayers) {
  Packed packed;
  packed.make();
  driver.configure(Json::object());
  EXPECT_EQ(refusal_of(driver, packed.layer),
            "bits missing: found packed tensors, expected bits in the configuration or the "
            "checkpoint's declaration");
  driver.configure({{"bits", 2}, {"weight_bits", 4}, {"group_size", 64}});
  EXPECT_EQ(refusal_of(driver, packed.layer), "accepted");  // weight_bits wins
}

TEST_F(AutoRound, OtherDataTypesAreRefusedWithTheMethodThatReadsThem) {
  Packed packed;
  packed.make();
  driver.configure({{"bits", 8},
                    {"group_size", 32},
                    {"data_type", "mx_fp"},
                    {"packing_format", "auto_round:llm_compressor"}});
  EXPECT_EQ(refusal_of(driver, packed.layer),
            "found data_type mx_fp, packing_format auto_round:llm_compressor, expected integers: "
            "the mxfp8 or mxfp4 method reads such tensors");
}

}  // namespace
}  // namespace loadstone::autoround
