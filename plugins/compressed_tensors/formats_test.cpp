// What the formats' tensors mean, and which ones are refused in which words.
#include <cmath>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/fp8.hpp"
#include "common/numerics/int8.hpp"
#include "compressed_tensors/testing.hpp"

namespace loadstone::compressed_tensors {
namespace {

using namespace common::testing;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class Formats : public ::testing::Test {
 protected:
  std::vector<float> weight_of(TestLayer& layer) {
    layer.show_values();
    Produced produced = driver.produce(layer);
    return driver.dequantize(layer, produced, 0, layer.out, layer.in);
  }
  std::string refusal_of(TestLayer& layer) {
    layer.show_values();
    return any_refusal([&] { driver.produce(layer); });
  }
  Driver driver{"compressed_tensors"};
};

// ---- packed integers ---------------------------------------------------------------------------

/// A packed layer and the weight that its definition gives.
struct Packed {
  TestLayer layer;
  std::vector<float> weight;
};

/// Values of `bits` bits as a stream along each of `lines` lines of `count`, `at(line, i)` each.
template <typename At>
std::vector<uint32_t> stream(uint64_t lines, uint64_t count, uint32_t bits, bool columns,
                             const At& at) {
  const uint64_t words = (count * bits + 31) / 32;
  std::vector<uint32_t> out(lines * words, 0);
  for (uint64_t line = 0; line < lines; ++line) {
    for (uint64_t bit = 0; bit < count * bits; ++bit) {
      const uint32_t value = at(line, bit / bits) >> bit % bits & 1u;
      const uint64_t word = bit / 32;
      out[columns ? word * lines + line : line * words + word] |= value << bit % 32;
    }
  }
  return out;
}

struct PackedShape {
  uint64_t n, k, group;  // group 0: a row
  uint32_t bits;
  bool asymmetric = false, ordered = false;
};

/// Adds the tensors of one part and appends its weight.
void add_packed(const PackedShape& s, uint32_t part, uint32_t seed, Packed& out) {
  Random random(seed);
  const uint64_t groups = s.group == 0 ? 1 : (s.k + s.group - 1) / s.group;
  const uint32_t mask = (1u << s.bits) - 1;
  std::vector<uint32_t> codes(s.n * s.k), zeros(s.n * groups, 1u << (s.bits - 1));
  std::vector<float> scales(s.n * groups);
  std::vector<int32_t> order(s.k);
  for (uint32_t& code : codes) code = random.bits() & mask;
  for (float& scale : scales) scale = common::bf16_decode(common::bf16_encode(random.uniform()));
  for (uint64_t i = 0; i < s.k; ++i) {
    order[i] = static_cast<int32_t>(s.ordered ? (i * 7 + 3) % groups
                                              : i / std::max<uint64_t>(s.group, s.k / groups));
  }
  for (uint32_t& zero : zeros) zero = s.asymmetric ? random.bits() & mask : zero;
  for (uint64_t n = 0; n < s.n; ++n) {
    for (uint64_t k = 0; k < s.k; ++k) {
      const uint64_t at = n * groups + static_cast<uint64_t>(order[k]);
      const int level = static_cast<int>(codes[n * s.k + k]) - static_cast<int>(zeros[at]);
      out.weight.push_back(static_cast<float>(level) * scales[at]);
    }
  }
  const auto words =
      stream(s.n, s.k, s.bits, false, [&](uint64_t n, uint64_t k) { return codes[n * s.k + k]; });
  out.layer.tensor("weight_packed", LS_DTYPE_I32, {s.n, words.size() / s.n}, words, part);
  out.layer.tensor("weight_shape", LS_DTYPE_I64, {2}, std::vector<uint64_t>{s.n, s.k}, part);
  out.layer.tensor("weight_scale", LS_DTYPE_F32, {s.n, groups}, scales, part);
  if (s.asymmetric) {
    const auto packed = stream(groups, s.n, s.bits, true, [&](uint64_t group, uint64_t n) {
      return zeros[n * groups + group];
    });
    out.layer.tensor("weight_zero_point", LS_DTYPE_I32, {packed.size() / groups, groups}, packed,
                     part);
  }
  if (s.ordered) out.layer.tensor("weight_g_idx", LS_DTYPE_I32, {s.k}, order, part);
}

Packed packed(const PackedShape& s) {
  Packed out;
  out.layer = empty_layer(s.n, s.k);
  out.layer.in = 0;  // only weight_shape tells
  add_packed(s, 0, s.bits + static_cast<uint32_t>(s.k), out);
  return out;
}

Json scheme_of(const PackedShape& s) {
  Json out = {{"num_bits", s.bits}, {"type", "int"}, {"symmetric", !s.asymmetric}};
  out["strategy"] = s.group == 0 ? "channel" : "group";
  if (s.group != 0) out["group_size"] = s.group;
  if (s.ordered) out["actorder"] = "group";
  return one_group(out);
}

/// Identities cover their stored tensors, no byte more.
void expect_filled(Produced& produced) {
  std::vector<uint64_t> filled(produced.answer.stored.size(), 0);
  for (const ls_identity& one : produced.answer.identities) {
    filled[one.stored] += one.rows * one.row_nbytes;
  }
  for (size_t i = 0; i < filled.size(); ++i) {
    EXPECT_EQ(filled[i], produced.blocks[i].nbytes()) << produced.answer.stored_names[i];
  }
}

std::vector<float> dequantized(Driver& driver, TestLayer& layer, uint64_t k) {
  layer.show_values();
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.work.in, k);
  layer.in = k;  // as the host does
  expect_filled(produced);
  return driver.dequantize(layer, produced, 0, layer.out, k);
}

TEST_F(Formats, PackedIntegersOfEveryWidth) {
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    for (const uint64_t k : {32, 45, 96}) {
      for (const uint64_t group : {0, 32}) {
        for (const bool asymmetric : {false, true}) {
          const PackedShape shape{5, k, group, bits, asymmetric};
          SCOPED_TRACE(::testing::Message() << bits << " bits, K " << k << ", group " << group
                                            << (asymmetric ? ", zero points" : ""));
          Packed given = packed(shape);
          driver.configure({{"config_groups", scheme_of(shape)}});
          EXPECT_EQ(dequantized(driver, given.layer, k), given.weight);
        }
      }
    }
  }
}

TEST_F(Formats, ColumnsMayHaveGroupsOfTheirOwn) {
  for (const bool asymmetric : {false, true}) {
    const PackedShape shape{6, 64, 16, 4, asymmetric, true};
    Packed given = packed(shape);
    driver.configure({{"config_groups", scheme_of(shape)}});
    EXPECT_EQ(dequantized(driver, given.layer, 64), given.weight);
  }
}

TEST_F(Formats, FusedPartsHaveTheirOwnZeroPointsAndAreSavedAsTheyCame) {
  const PackedShape first{5, 64, 32, 3, true, true}, second{7, 64, 32, 3, true, true};
  Packed given;
  given.layer.out = 12;
  given.layer.part("blocks.0.to_q", 0, 5);
  given.layer.part("blocks.0.to_k", 5, 7);
  add_packed(first, 0, 1, given);
  add_packed(second, 1, 2, given);
  driver.configure({{"config_groups", scheme_of(first)}});
  EXPECT_EQ(dequantized(driver, given.layer, 64), given.weight);
  Produced produced = driver.produce(given.layer);
  const auto saved = driver.save(given.layer, produced);
  ASSERT_EQ(saved.size(), given.layer.sources().size());
  for (const auto& one : saved) {
    bool equal = false;
    for (const auto& from : given.layer.sources()) {
      equal = equal || (from.name == one.name && from.part == one.part && from.bytes == one.bytes);
    }
    EXPECT_TRUE(equal) << one.name << " of part " << one.part;
  }
}

TEST_F(Formats, ExpertsHaveTheirOwnScalesZeroPointsAndGroups) {
  const PackedShape shape{5, 64, 16, 3, true, true};
  Packed given;
  given.layer.kind = LS_KIND_GROUPED;
  given.layer.groups = 2;
  given.layer.out = 5;
  for (const uint32_t expert : {0u, 1u}) {
    given.layer.part("experts." + std::to_string(expert), 0, 5, expert);
    add_packed(shape, expert, 20 + expert, given);
  }
  given.layer.show_values();
  driver.configure({{"config_groups", scheme_of(shape)}});
  Produced produced = driver.produce(given.layer);
  expect_filled(produced);
  given.layer.in = 64;
  for (const uint32_t expert : {0u, 1u}) {
    const auto weight = driver.dequantize(given.layer, produced, 0, 5, 64, expert);
    const std::vector<float> wanted(given.weight.begin() + expert * 5 * 64,
                                    given.weight.begin() + (expert + 1) * 5 * 64);
    EXPECT_EQ(weight, wanted) << expert;
  }
}

TEST_F(Formats, KeptLayersBecomeFloats) {
  const PackedShape shape{5, 64, 16, 4, true, true};
  Packed given = packed(shape);
  given.layer.want = LS_WANT_DECODE;
  given.layer.load_dtype = LS_DTYPE_F32;
  given.layer.show_values();
  driver.configure({{"config_groups", scheme_of(shape)}});
  Produced produced = driver.produce(given.layer);
  EXPECT_EQ(produced.named("weight").as<float>(), given.weight);
}

TEST_F(Formats, PackedTensorsMustFitEachOther) {
  const PackedShape shape{5, 64, 32, 4, true, true};
  driver.configure({{"config_groups", scheme_of(shape)}});
  const auto changed = [&](const std::string& name, const auto& change) {
    Packed given = packed(shape);
    auto& sources = given.layer.sources();
    for (size_t i = 0; i < sources.size(); ++i) {
      if (sources[i].name != name) continue;
      if (!change(sources[i])) sources.erase(sources.begin() + static_cast<long>(i));
      break;
    }
    return refusal_of(given.layer);
  };
  const auto drop = [](TestLayer::Source&) { return false; };
  const auto value = [](auto number, size_t at) {
    return [=](TestLayer::Source& source) {
      std::memcpy(source.bytes.data() + at * sizeof number, &number, sizeof number);
      return true;
    };
  };
  const auto typed = [](uint32_t dtype) {
    return [=](TestLayer::Source& source) {
      source.dtype = dtype;
      return true;
    };
  };
  const std::string at = "blocks.0.linear.";
  EXPECT_EQ(changed("weight_shape", drop),
            "weight has no shape: " + at +
                "weight_packed: found only \"weight_scale\" and \"weight_zero_point\" and "
                "\"weight_g_idx\", expected \"weight_shape\"");
  EXPECT_EQ(changed("weight_shape", typed(LS_DTYPE_F32)),
            "shape of a weight rejected: " + at + "weight_shape: found F32 [2], expected I64 [2]");
  EXPECT_EQ(changed("weight_shape", value(uint64_t{72}, 1)),
            "weight has a wrong shape: " + at +
                "weight_packed: found [5, 8] for [5, 72] of 4 bits, expected [5, 9]");
  EXPECT_EQ(changed("weight_shape", value(uint64_t{6}, 0)),
            "weight has a wrong shape: " + at +
                "weight_packed: found [5, 8] for [6, 64] of 4 bits, expected [5, 8]");
  EXPECT_EQ(changed("weight_shape", value(uint64_t{1} << 62, 1)),
            "shape of a weight rejected: " + at +
                "weight_shape: found 4611686018427387904, expected rows and columns");
  EXPECT_EQ(changed("weight_zero_point", drop),
            "weight has no zero points: " + at +
                "weight_packed: found only \"weight_shape\" and \"weight_scale\" and "
                "\"weight_g_idx\", expected \"weight_zero_point\"");
  EXPECT_EQ(changed("weight_zero_point", typed(LS_DTYPE_I8)),
            "zero points have a wrong dtype: " + at + "weight_zero_point: found I8, expected I32");
  EXPECT_EQ(changed("weight_zero_point",
                    [](TestLayer::Source& source) {
                      source.shape = {2, 2};
                      return true;
                    }),
            "zero points have a wrong shape: " + at +
                "weight_zero_point: found [2, 2], expected [1, 2] for a weight of [5, 8]");
  EXPECT_EQ(changed("weight_g_idx", drop),
            "columns have no groups: " + at +
                "weight_packed: found only \"weight_shape\" and \"weight_scale\" and "
                "\"weight_zero_point\", expected \"weight_g_idx\"");
  EXPECT_EQ(
      changed("weight_g_idx", typed(LS_DTYPE_F32)),
      "groups of columns rejected: " + at + "weight_g_idx: found F32 [64], expected I32 [64]");
  for (const int32_t group : {2, -1}) {
    EXPECT_EQ(changed("weight_g_idx", value(group, 9)),
              "group index out of range: " + at + "weight_g_idx: found " + std::to_string(group) +
                  " at column 9, expected 0 to 1");
  }
  EXPECT_EQ(changed("weight_scale", value(kNan, 3)),
            "scale rejected: " + at + "weight_scale: found NaN at index 3, expected finite");
  EXPECT_EQ(changed("weight_scale", value(3e38f, 3)),
            "weight is not finite: " + at + "weight_packed: row 1");
  EXPECT_EQ(
      changed("weight_scale", typed(LS_DTYPE_I32)),
      "scale has a wrong dtype: " + at + "weight_scale: found I32, expected F32, BF16 or F16");
  const std::string zero = changed("weight_scale", value(0.0f, 0));
  EXPECT_EQ(zero.rfind("scale", 0), 0u) << zero;
}

TEST_F(Formats, AZeroScaleIsFineOverZeroLevels) {
  const PackedShape shape{4, 32, 0, 4};
  Packed given = packed(shape);
  for (auto& source : given.layer.sources()) {
    if (source.name == "weight_packed") std::fill_n(source.bytes.begin(), 16, char(0x88));
    if (source.name == "weight_scale") std::memset(source.bytes.data(), 0, 4);
  }
  driver.configure({{"config_groups", scheme_of(shape)}});
  const auto weight = dequantized(driver, given.layer, 32);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(weight[i], 0.0f);
}

// ---- integers a byte ---------------------------------------------------------------------------

TEST_F(Formats, IntegersMayHaveZeroPoints) {
  Json scheme = channel8();
  scheme["symmetric"] = false;
  Json groups = one_group(scheme);
  groups["group_0"]["format"] = "naive-quantized";
  driver.configure({{"config_groups", groups}});
  TestLayer layer = int8_layer(4, 32, 4);
  const std::vector<int8_t> zeros = {-128, -1, 0, 127};
  layer.tensor("weight_zero_point", LS_DTYPE_I8, {4, 1}, zeros);
  const auto weight = weight_of(layer);
  for (size_t i = 0; i < weight.size(); ++i) {
    const int code = static_cast<int8_t>(i * 37);
    EXPECT_EQ(weight[i], static_cast<float>(code - zeros[i / 32]) * 0.25f) << i;
  }
}

TEST_F(Formats, CodesOfFewerBitsMustFitThem) {
  Json scheme = channel8();
  scheme["num_bits"] = 4;
  Json groups = one_group(scheme);
  groups["group_0"]["format"] = "int-quantized";
  driver.configure({{"config_groups", groups}});
  TestLayer layer = empty_layer(1, 4);
  layer.tensor("weight", LS_DTYPE_I8, {1, 4}, std::vector<int8_t>{-8, 7, 0, 8});
  layer.tensor("weight_scale", LS_DTYPE_F32, {1, 1}, std::vector<float>{1.0f});
  EXPECT_EQ(refusal_of(layer),
            "code rejected: blocks.0.linear.weight: found 8 at row 0, expected -8 to 7");
}

// ---- products ----------------------------------------------------------------------------------

/// How an activation row is rounded.
using RoundRow = std::vector<float> (*)(const std::vector<float>& x);

std::vector<float> as_int8(const std::vector<float>& x) {
  std::vector<int8_t> codes(x.size());
  const float scale = common::int8_quantize_row(x.data(), codes.data(), x.size());
  std::vector<float> out;
  for (const int8_t code : codes) out.push_back(static_cast<float>(code) * scale);
  return out;
}

std::vector<float> as_fp8(const std::vector<float>& x) {
  std::vector<float> out(x.size());
  const float scale = common::fp8_token(x.data(), nullptr, out.data(), x.size());
  for (float& value : out) value = common::e4m3_decode(common::e4m3_encode(value)) * scale;
  return out;
}

std::vector<float> as_int4(const std::vector<float>& x) {
  std::vector<int8_t> codes(x.size());
  const float scale = common::int4_quantize_row(x.data(), codes.data(), x.size());
  std::vector<float> out;
  for (const int8_t code : codes) out.push_back(static_cast<float>(code) * scale);
  return out;
}

std::vector<float> as_it_is(const std::vector<float>& x) { return x; }

/// apply against Σ x̂·ŵ in float64, within (K+8)·2^-24·Σ|x̂·ŵ|.
void expect_product(Driver& driver, TestLayer& layer, uint64_t k, RoundRow round) {
  constexpr uint64_t kRows = 3;
  layer.show_values();
  Produced produced = driver.produce(layer);
  layer.in = k;  // as the host does
  const auto weight = driver.dequantize(layer, produced, 0, layer.out, k);
  Random random(11);
  std::vector<float> x(kRows * k);
  for (float& value : x) value = random.uniform();
  Driver::Run run;
  run.x = x.data();
  run.m = kRows;
  run.k = k;
  run.n = layer.out;
  const auto y = driver.apply(layer, produced, run);
  for (uint64_t i = 0; i < kRows; ++i) {
    const auto row =
        round({x.begin() + static_cast<long>(i * k), x.begin() + static_cast<long>((i + 1) * k)});
    for (uint64_t n = 0; n < layer.out; ++n) {
      double sum = 0, size = 0;
      for (uint64_t c = 0; c < k; ++c) {
        const double product = static_cast<double>(row[c]) * weight[n * k + c];
        sum += product;
        size += std::abs(product);
      }
      const double bound = static_cast<double>(k + 8) * 0x1p-24 * size;
      ASSERT_LE(std::abs(y[i * layer.out + n] - sum), bound) << i << " " << n;
    }
  }
}

const Json kInt8Token = {
    {"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
const Json kFp8Token = {
    {"num_bits", 8}, {"type", "float"}, {"strategy", "token"}, {"dynamic", true}};

TEST_F(Formats, PackedIntegersMultiplyEveryActivation) {
  const std::pair<Json, RoundRow> inputs[] = {
      {Json(), as_it_is}, {kInt8Token, as_int8}, {kFp8Token, as_fp8}};
  for (const auto& [input, round] : inputs) {
    for (const bool asymmetric : {false, true}) {
      for (const uint64_t group : {0, 32}) {
        const PackedShape shape{6, 96, group, 4, asymmetric};
        Packed given = packed(shape);
        Json groups = scheme_of(shape);
        groups["group_0"]["input_activations"] = input;
        groups["group_0"]["format"] = "pack-quantized";
        driver.configure({{"config_groups", groups}});
        SCOPED_TRACE(groups.dump());
        expect_product(driver, given.layer, 96, round);
      }
    }
  }
}

TEST_F(Formats, PackedWordsMultiplyPlainActivations) {
  const PackedShape shapes[] = {{6, 96, 32, 4},      {6, 320, 128, 4},     {7, 160, 64, 4, true},
                                {6, 72, 0, 4, true}, {5, 48, 16, 4, true}, {6, 96, 32, 3, true}};
  for (const PackedShape& shape : shapes) {
    Packed given = packed(shape);
    driver.configure({{"config_groups", scheme_of(shape)}});
    SCOPED_TRACE(::testing::Message() << shape.bits << " bits, " << shape.k << ", " << shape.group);
    expect_product(driver, given.layer, shape.k, as_it_is);
  }
}

TEST_F(Formats, ColumnsOfTheirOwnGroupsMultiplyPlainActivationsOnly) {
  const PackedShape shape{6, 64, 32, 4, false, true};
  Packed given = packed(shape);
  driver.configure({{"config_groups", scheme_of(shape)}});
  expect_product(driver, given.layer, 64, as_it_is);
  Json groups = scheme_of(shape);
  groups["group_0"]["input_activations"] = kInt8Token;
  groups["group_0"]["format"] = "pack-quantized";
  driver.configure({{"config_groups", groups}});
  EXPECT_EQ(refusal_of(given.layer),
            "compressed_tensors: columns have groups of their own (\"weight_g_idx\"), which a "
            "product of quantized activations doesn't have");
}

TEST_F(Formats, IntegersOfGroupsMultiplyInt8Int4AndFp8) {
  Json int4_token = kInt8Token;
  int4_token["num_bits"] = 4;
  for (const auto& [input, round] : {std::pair<Json, RoundRow>{kInt8Token, as_int8},
                                     {int4_token, as_int4},
                                     {kFp8Token, as_fp8}}) {
    driver.configure(
        {{"config_groups", one_group(group_of(4, 32), input)}, {"format", "int-quantized"}});
    TestLayer layer = empty_layer(5, 64);
    std::vector<int8_t> codes(5 * 64);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<int8_t>(i * 5 % 16) - 8;
    std::vector<float> scales;
    for (int i = 0; i < 10; ++i) scales.push_back(0.01f * static_cast<float>(i % 3 - 4));
    layer.tensor("weight", LS_DTYPE_I8, {5, 64}, codes);
    layer.tensor("weight_scale", LS_DTYPE_F32, {5, 2}, scales);
    expect_product(driver, layer, 64, round);
  }
}

TEST_F(Formats, IntegersWithZeroPointsMultiplyInt8) {
  Json scheme = channel8();
  scheme["symmetric"] = false;
  driver.configure({{"config_groups", one_group(scheme, kInt8Token)}});
  TestLayer layer = int8_layer(4, 64, 4);
  layer.tensor("weight_zero_point", LS_DTYPE_I8, {4, 1}, std::vector<int8_t>{-128, -1, 0, 127});
  expect_product(driver, layer, 64, as_int8);
}

// ---- floats ------------------------------------------------------------------------------------

TestLayer fp8_layer(uint64_t n, uint64_t k, std::vector<uint64_t> shape) {
  TestLayer out = empty_layer(n, k);
  std::vector<uint8_t> codes(n * k);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 7 % 120);
  uint64_t count = 1;
  for (const uint64_t extent : shape) count *= extent;
  std::vector<float> scales;
  for (uint64_t i = 0; i < count; ++i) scales.push_back(0.5f + static_cast<float>(i));
  out.tensor("weight", LS_DTYPE_F8_E4M3, {n, k}, codes);
  out.tensor("weight_scale", LS_DTYPE_F32, std::move(shape), scales);
  return out;
}

TEST_F(Formats, Fp8BlocksEndWithTheMatrixAndTheirActivationsWithTheBlock) {
  const Json weights = {
      {"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", "32x64"}};
  const Json input = {{"num_bits", 8},
                      {"type", "float"},
                      {"strategy", "group"},
                      {"group_size", 64},
                      {"dynamic", true}};
  driver.configure({{"config_groups", one_group(weights, input)}});
  TestLayer layer = fp8_layer(40, 96, {2, 2});
  layer.show_values();
  Produced produced = driver.produce(layer);
  EXPECT_EQ(produced.answer.kernel, "fp8_block_weight_only");
  EXPECT_EQ(produced.answer.reason,
            "K = 96 is not whole activation groups of 64: the activation stays as it is");
  const auto weight = driver.dequantize(layer, produced, 0, 40, 96);
  for (uint64_t n = 0; n < 40; ++n) {
    for (uint64_t k = 0; k < 96; ++k) {
      const auto code = static_cast<uint8_t>((n * 96 + k) * 7 % 120);
      const float scale = 0.5f + static_cast<float>(n / 32 * 2 + k / 64);
      ASSERT_EQ(weight[n * 96 + k], common::e4m3_decode(code) * scale) << n << " " << k;
    }
  }
  TestLayer whole = fp8_layer(40, 128, {2, 2});
  EXPECT_EQ(driver.plan(whole).kernel, "fp8_block_fp8_group");
}

TEST_F(Formats, Nvfp4IsCodeTimesTheQuotientOfItsScales) {
  const Json weights = {
      {"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}};
  driver.configure({{"config_groups", one_group(weights)}});
  TestLayer layer = empty_layer(3, 32);
  std::vector<uint8_t> codes(48), scales(6);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 11);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<uint8_t>(0x31 + i);
  layer.tensor("weight_packed", LS_DTYPE_U8, {3, 16}, codes);
  layer.tensor("weight_scale", LS_DTYPE_F8_E4M3, {3, 2}, scales);
  layer.tensor("weight_global_scale", LS_DTYPE_F32, {1}, std::vector<float>{37.0f});
  const auto weight = weight_of(layer);
  for (size_t i = 0; i < weight.size(); ++i) {
    const float code = common::e2m1_decode(codes[i / 2] >> (i % 2 * 4) & 15);
    ASSERT_EQ(weight[i], code * (common::e4m3_decode(scales[i / 16]) / 37.0f)) << i;
  }
}

TEST_F(Formats, MxWeightsMayMultiplyActivationsAsTheyAre) {
  const Json weights = {
      {"num_bits", 4}, {"type", "float"}, {"strategy", "group"}, {"group_size", 32}};
  TestLayer layer = empty_layer(3, 64);
  std::vector<uint8_t> codes(96);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 11);
  const std::vector<uint8_t> scales = {126, 127, 128, 120, 121, 122};
  layer.tensor("weight_packed", LS_DTYPE_U8, {3, 32}, codes);
  layer.tensor("weight_scale", LS_DTYPE_U8, {3, 2}, scales);
  driver.configure({{"config_groups", one_group(weights)}});
  EXPECT_EQ(driver.plan(layer).kernel, "mxfp4_weight_only");
  const auto weight = weight_of(layer);
  for (size_t i = 0; i < weight.size(); ++i) {
    const float code = common::e2m1_decode(codes[i / 2] >> (i % 2 * 4) & 15);
    ASSERT_EQ(weight[i], code * common::e8m0_decode(scales[i / 32])) << i;
  }
  expect_product(driver, layer, 64, as_it_is);
  Json input = weights;
  input["dynamic"] = true;
  driver.configure({{"config_groups", one_group(weights, input)}});
  EXPECT_EQ(driver.plan(layer).kernel, "mxfp4_w4a4");
  input["num_bits"] = 8;
  driver.configure({{"config_groups", one_group(weights, input)}});
  EXPECT_EQ(driver.plan(layer).kernel, "mxfp4_w4a8");
}

TEST_F(Formats, FloatScalesMustBeThereFiniteAndNotNegative) {
  const Json weights = {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}};
  driver.configure({{"config_groups", one_group(weights)}});
  const auto with = [&](uint32_t dtype, std::vector<uint64_t> shape, std::vector<float> values) {
    TestLayer layer = fp8_layer(4, 32, {4, 1});
    layer.sources().pop_back();
    if (!values.empty()) layer.tensor("weight_scale", dtype, std::move(shape), values);
    return refusal_of(layer);
  };
  const std::string at = "blocks.0.linear.weight";
  EXPECT_EQ(with(LS_DTYPE_F32, {}, {}), "weight has no scale: " + at +
                                            ": found nothing beside it, expected "
                                            "\"weight_scale\"");
  EXPECT_EQ(with(LS_DTYPE_I32, {4, 1}, {1, 1, 1, 1}),
            "scale has a wrong dtype: " + at + "_scale: found I32, expected F32, BF16 or F16");
  EXPECT_EQ(with(LS_DTYPE_F32, {3, 1}, {1, 1, 1}),
            "scale has a wrong shape: " + at +
                "_scale: found [3, 1], expected [4, 1] for a weight of [4, 32]");
  EXPECT_EQ(
      with(LS_DTYPE_F32, {4, 1}, {1, kNan, 1, 1}),
      "scale rejected: " + at + "_scale: found NaN at index 1, expected finite and at least 0");
  EXPECT_EQ(with(LS_DTYPE_F32, {4, 1}, {1, 1, -1, 1}),
            "scale rejected: " + at +
                "_scale: found a negative value at index 2, expected finite and at least 0");
}

TEST_F(Formats, AWeightOfAnotherFormatIsNamed) {
  const Json weights = {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}};
  driver.configure({{"config_groups", one_group(weights)}});
  TestLayer integers = int8_layer(4, 32, 4);
  EXPECT_EQ(refusal_of(integers),
            "weight of another format: blocks.0.linear.weight: found I8, expected \"weight\" as "
            "F8_E4M3 (float-quantized)");
  driver.configure({{"config_groups", one_group(group_of(4, 32))}});
  EXPECT_EQ(refusal_of(integers),
            "weight of another format: blocks.0.linear.weight: found I8, expected "
            "\"weight_packed\" as I32 (pack-quantized)");
}

TEST_F(Formats, StaticScalesOfActivationsAreNeeded) {
  const Json input = {{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}};
  driver.configure({{"config_groups", one_group(channel8(), input)}});
  TestLayer layer = int8_layer(4, 32, 4);
  EXPECT_EQ(refusal_of(layer),
            "activations have no scale: blocks.0.linear.weight: found only \"weight_scale\", "
            "expected \"input_scale\"");
  layer.tensor("input_scale", LS_DTYPE_F32, {1}, std::vector<float>{0.0f});
  EXPECT_EQ(refusal_of(layer),
            "scale rejected: blocks.0.linear.input_scale: found 0 at index 0, expected finite and "
            "more than 0");
}

}  // namespace
}  // namespace loadstone::compressed_tensors
