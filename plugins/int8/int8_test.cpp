// The plugin's rules: what it refuses and in which words, what it keeps, decodes and saves.
#include "common/numerics/int8.hpp"

#include <cmath>

#include "common/testing/online.hpp"

namespace loadstone::int8 {
namespace {

using namespace common::testing;

const Json kSerialized = {{"is_checkpoint_int8_serialized", true}};

TestLayer stored(uint64_t n, uint64_t k, std::vector<uint64_t> shape,
                 const std::vector<float>& scales) {
  TestLayer out = empty(n, k);
  Random random(5);
  std::vector<int8_t> codes(n * k);
  for (int8_t& code : codes) code = static_cast<int8_t>(random.bits());
  out.tensor("weight", LS_DTYPE_I8, {n, k}, codes);
  out.tensor("weight_scale", LS_DTYPE_F32, std::move(shape), scales);
  return out;
}

class Int8 : public ::testing::Test {
 protected:
  std::string load_refusal(TestLayer& layer) {
    return refusal([&] { driver.produce(layer); });
  }
  Driver driver{"int8"};
};

TEST_F(Int8, KeepsFloatsOfASerializedCheckpoint) {
  driver.configure(kSerialized);
  TestLayer layer = floats(4, 8);
  const Answer answer = driver.plan(layer);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_KEEP});
  EXPECT_EQ(answer.reason, "stored as F32 in a checkpoint of serialized int8");
}

TEST_F(Int8, RefusesWhatIsNoProduct) {
  driver.configure(Json::object());
  TestLayer gather = floats(4, 8);
  gather.kind = LS_KIND_GATHER;
  EXPECT_EQ(driver.plan(gather).work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
  TestLayer wide = empty(1, 70000);
  wide.tensor("weight", LS_DTYPE_F32, {1, 70000}, std::vector<float>(70000));
  EXPECT_EQ(driver.plan(wide).reason, "found K = 70000, expected at most 65536 (exact int32 sums)");
}

TEST_F(Int8, S27_MissingScaleNamesWhatIsExpected) {
  driver.configure(kSerialized);
  TestLayer layer = empty(4, 8);
  layer.tensor("weight", LS_DTYPE_I8, {4, 8}, std::vector<int8_t>(32));
  EXPECT_EQ(load_refusal(layer),
            "int8 weight has no scale: blocks.0.linear.weight: found nothing beside it, expected "
            "\"weight_scale\" as F32 [4, 1]");
}

TEST_F(Int8, S28_ScaleOfAWrongShapeOrDtypeIsNamed) {
  driver.configure(kSerialized);
  TestLayer layer = stored(4, 8, {5, 1}, std::vector<float>(5, 1.0f));
  EXPECT_EQ(load_refusal(layer),
            "scale has a wrong shape: blocks.0.linear.weight_scale: found [5, 1], expected [4] or "
            "[4, 1] for a weight of [4, 8]");
  TestLayer integers = empty(4, 8);
  integers.tensor("weight", LS_DTYPE_I8, {4, 8}, std::vector<int8_t>(32));
  integers.tensor("weight_scale", LS_DTYPE_I32, {4, 1}, std::vector<int32_t>(4));
  EXPECT_EQ(load_refusal(integers),
            "scale has a wrong dtype: blocks.0.linear.weight_scale: found I32, expected F32, BF16 "
            "or F16");
}

TEST_F(Int8, S29_ScalesThatNoFormatAllowsAreRefusedWithTheirIndex) {
  driver.configure(kSerialized);
  const std::pair<float, const char*> bad[] = {
      {NAN, "NaN"}, {INFINITY, "infinity"}, {-1.0f, "a negative value"}};
  for (const auto& [value, text] : bad) {
    TestLayer layer = stored(3, 8, {3}, {1.0f, value, 1.0f});
    EXPECT_EQ(load_refusal(layer),
              std::string("scale rejected: blocks.0.linear.weight_scale: found ") + text +
                  " at index 1, expected finite and at least 0");
  }
  TestLayer zero = stored(2, 8, {2, 1}, {1.0f, 0.0f});
  EXPECT_EQ(load_refusal(zero),
            "scale rejected: blocks.0.linear.weight_scale: found 0 over codes that aren't 0 in row "
            "1, expected more than 0");
  std::fill(zero.sources()[0].bytes.begin() + 8, zero.sources()[0].bytes.end(), '\0');
  driver.produce(zero);
}

TEST_F(Int8, S29_ScalesWhoseProductsLeaveFloat32AreRefusedWithTheirRow) {
  driver.configure(kSerialized);
  for (const uint32_t want : {LS_WANT_QUANTIZE, LS_WANT_DECODE}) {
    TestLayer layer = stored(2, 8, {2, 1}, {1.0f, 1e38f});
    layer.want = want;
    layer.load_dtype = LS_DTYPE_F32;
    std::vector<char>& codes = layer.sources()[0].bytes;
    std::fill(codes.begin(), codes.end(), '\x03');  // 3e38 is a float32
    driver.produce(layer);
    codes.back() = -4;
    EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 1");
  }
}

TEST_F(Int8, S33_WeightsThatAreNotFiniteAreRefused) {
  driver.configure(Json::object());
  for (const float bad : {NAN, INFINITY}) {
    auto values = random_values(40);
    values[3 * 8 + 5] = bad;
    TestLayer layer = empty(5, 8);
    layer.tensor("weight", LS_DTYPE_F32, {5, 8}, values);
    EXPECT_EQ(load_refusal(layer), "weight is not finite: blocks.0.linear.weight: row 3, column 5");
  }
}

TEST_F(Int8, DecodesToTheLoadDtype) {
  driver.configure(kSerialized);
  TestLayer layer = stored(3, 40, {3, 1}, {0.5f, 0.125f, 3.0f});
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

TEST_F(Int8, FusedPartsKeepTheirRowsAndSaveUnderTheirNames) {
  driver.configure(Json::object());
  TestLayer layer;
  layer.out = 7;
  layer.in = 16;
  layer.part("q", 0, 4);
  layer.part("k", 4, 3);
  layer.tensor("weight", LS_DTYPE_F32, {4, 16}, random_values(64, 1), 0);
  layer.tensor("weight", LS_DTYPE_F32, {3, 16}, random_values(48, 2), 1);
  Produced produced = driver.produce(layer);
  const auto saved = driver.save(layer, produced);
  ASSERT_EQ(saved.size(), 4u);
  TestLayer again;
  again.out = 7;
  again.in = 16;
  again.part("q", 0, 4);
  again.part("k", 4, 3);
  for (const Driver::Saved& one : saved) {
    const std::vector<uint64_t> shape(one.shape.shape, one.shape.shape + one.shape.rank);
    again.tensor(one.name, one.shape.dtype, shape, one.bytes, one.part);
  }
  driver.configure(kSerialized);
  Produced reloaded = driver.produce(again);
  EXPECT_EQ(reloaded.named("weight").as<char>(), produced.named("weight").as<char>());
  EXPECT_EQ(reloaded.named("weight_scale").as<char>(), produced.named("weight_scale").as<char>());
}

TEST_F(Int8, ExpertsAreMultipliedByTheirOwnMatrix) {
  driver.configure(Json::object());
  expect_experts_by_their_own_matrix(driver);
}

TEST_F(Int8, NonFiniteActivationsNeverGiveASilentNumber) {
  driver.configure(Json::object());
  expect_non_finite_activations_show(driver, 64);
}

TEST_F(Int8, ReadsItsDeclaration) {
  const Declared declared = driver.read_declaration({{"quant_method", "int8"},
                                                     {"activation_scheme", "dynamic"},
                                                     {"is_checkpoint_int8_serialized", true},
                                                     {"ignored_layers", {"proj_out", "re:^img"}}});
  EXPECT_EQ(declared.value("is_checkpoint_int8_serialized"), true);
  ASSERT_EQ(declared.scopes.size(), 2u);
  EXPECT_EQ(declared.scopes[0].pattern, "proj_out");
  EXPECT_EQ(declared.scopes[0].style, uint32_t{LS_STYLE_SEGMENTS});
  EXPECT_EQ(declared.scopes[1].pattern, "^img");
  EXPECT_EQ(declared.scopes[1].style, uint32_t{LS_STYLE_REGEX});
  EXPECT_EQ(refusal([&] {
              driver.read_declaration({{"ignore", {"a"}}});
            }),
            "declaration rejected: found unknown key \"ignore\", expected activation_scheme, "
            "ignored_layers, is_checkpoint_int8_serialized, or modules_to_not_convert");
  EXPECT_EQ(refusal([&] {
              driver.read_declaration({{"ignored_layers", "a"}});
            }),
            "declaration rejected: ignored_layers: found a, expected a list of layer names");
}

}  // namespace
}  // namespace loadstone::int8
