// AutoRound's MX dictionaries: bits of weights and activations, for all layers and for some.
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/testing/online.hpp"

namespace loadstone::mxfp4 {
namespace {

using namespace common::testing;

constexpr uint64_t kRows = 4, kColumns = 64;

Json dictionary(int bits, const Json& more = Json::object()) {
  Json out = {{"quant_method", "auto-round"},
              {"bits", bits},
              {"group_size", 32},
              {"data_type", "mx_fp"},
              {"act_bits", bits},
              {"packing_format", "auto_round:llm_compressor"}};
  out.update(more);
  return out;
}

TestLayer scaled(const std::string& path) {
  TestLayer out;
  out.path = path;
  out.out = kRows;
  out.in = kColumns;
  out.part(path, 0, kRows);
  out.tensor("weight_scale", LS_DTYPE_U8, {kRows, 2}, std::vector<uint8_t>(kRows * 2, 125));
  return out;
}

TestLayer four_bits(const std::string& path) {
  TestLayer out = scaled(path);
  out.tensor("weight_packed", LS_DTYPE_U8, {kRows, kColumns / 2},
             std::vector<uint8_t>(kRows * kColumns / 2, 0x21));
  return out;
}

TestLayer eight_bits(const std::string& path) {
  TestLayer out = scaled(path);
  out.tensor("weight", LS_DTYPE_F8_E4M3, {kRows, kColumns},
             std::vector<uint8_t>(kRows * kColumns, 0x4b));
  return out;
}

class AutoRoundMx : public ::testing::Test {
 protected:
  /// The kernel of a layer under a dictionary of `bits`; its plugin is the one that claims it.
  std::string kernel(const Json& declared, TestLayer layer) {
    Driver& driver = declared["bits"] == 4 ? mxfp4 : mxfp8;
    driver.configure(driver.read_declaration(declared, 1).of(layer.path));
    return driver.plan(layer).kernel;
  }
  Driver mxfp4{"mxfp4", "mxfp4"}, mxfp8{"mxfp8"};
};

TEST_F(AutoRoundMx, LayersMayHaveOtherBitsThanTheRest) {
  const Json eight = {{"bits", 8}, {"act_bits", 8}}, four = {{"bits", 4}, {"act_bits", 4}};
  for (const char* key : {"blocks.0.to_q", "to_q", "blocks\\..*to_q"}) {
    SCOPED_TRACE(key);
    const Json some8 = dictionary(4, {{"extra_config", {{key, eight}}}});
    const Json some4 = dictionary(8, {{"extra_config", {{key, four}}}});
    EXPECT_EQ(kernel(some8, eight_bits("blocks.0.to_q")), "mxfp8_w8a8");
    EXPECT_EQ(kernel(some8, four_bits("blocks.0.to_k")), "mxfp4_w4a4");
    EXPECT_EQ(kernel(some4, four_bits("blocks.0.to_q")), "mxfp4_w4a4");
    EXPECT_EQ(kernel(some4, eight_bits("blocks.0.to_k")), "mxfp8_w8a8");
  }
}

TEST_F(AutoRoundMx, TheRuleOfTheOtherBitsIsOcp) {
  const auto output = [&](Driver& driver, Json fields, TestLayer layer) {
    driver.configure(fields);
    Produced produced = driver.produce(layer);
    const std::vector<float> x = random_values(3 * kColumns);
    return driver.apply(layer, produced, run_of(x, kColumns, kRows));
  };
  const Json own = {{"is_checkpoint_mxfp4_serialized", true}, {"weight_bits", 8}};
  Json uos = own;
  uos["mxfp4_scale_alg"] = 2;
  EXPECT_EQ(output(mxfp4, own, eight_bits("a")), output(mxfp4, uos, eight_bits("a")));
  EXPECT_EQ(output(mxfp4, own, eight_bits("a")),
            output(mxfp8, {{"is_checkpoint_mxfp8_serialized", true}}, eight_bits("a")));
}

TEST_F(AutoRoundMx, ALayerOfEightBitsHasItsOwnValues) {
  const Json declared =
      dictionary(4, {{"extra_config", {{"blocks.0.to_q", {{"bits", 8}, {"act_bits", 8}}}}}});
  mxfp4.configure(mxfp4.read_declaration(declared, 1).of("blocks.0.to_q"));
  TestLayer layer = eight_bits("blocks.0.to_q");
  Produced produced = mxfp4.produce(layer);
  for (const float value : mxfp4.dequantize(layer, produced, 0, kRows, kColumns)) {
    EXPECT_EQ(value, common::e4m3_decode(0x4b) * common::e8m0_decode(125));
  }
}

TEST_F(AutoRoundMx, ActivationsHaveTheBitsTheySay) {
  EXPECT_EQ(kernel(dictionary(4, {{"act_bits", 16}}), four_bits("a")), "mxfp4_weight_only");
  EXPECT_EQ(kernel(dictionary(8, {{"act_bits", 16}}), eight_bits("a")), "mxfp8_weight_only");
  EXPECT_EQ(kernel(dictionary(4, {{"act_bits", 8}}), four_bits("a")), "mxfp4_w4a8");
  EXPECT_EQ(refusal(
                [&] {
                  kernel(dictionary(8, {{"act_bits", 4}}), eight_bits("a"));
                },
                LS_INVALID_CONFIG),
            "act_bits rejected: found 4 under weights of 8 bits, expected 8 or 16");
}

TEST_F(AutoRoundMx, SavedNativelyALayerKeepsItsBits) {
  struct Case {
    int bits;        // of the dictionary
    Json own;        // of the layer
    Json declared;   // the fields of the native declaration
    uint64_t width;  // of the layer's codes
  };
  const Case cases[] = {
      {4, {{"bits", 4}, {"act_bits", 4}}, Json::object(), 4},
      {4, {{"bits", 8}, {"act_bits", 8}}, {{"weight_bits", 8}}, 8},
      {4, {{"bits", 4}, {"act_bits", 8}}, {{"activation_bits", 8}}, 4},
      {4, {{"bits", 8}, {"act_bits", 16}}, {{"weight_bits", 8}, {"activation_bits", 16}}, 8},
      {8, {{"bits", 8}, {"act_bits", 8}}, Json::object(), 8},
      {8, {{"bits", 4}, {"act_bits", 4}}, {{"weight_bits", 4}}, 4},
      {8, {{"bits", 4}, {"act_bits", 8}}, {{"weight_bits", 4}, {"activation_bits", 8}}, 4},
      {8, {{"bits", 8}, {"act_bits", 16}}, {{"activation_bits", 16}}, 8},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(std::to_string(one.bits) + " " + one.own.dump());
    Driver& driver = one.bits == 4 ? mxfp4 : mxfp8;
    const Json dictionary_of_it = dictionary(one.bits, {{"extra_config", {{"a", one.own}}}});
    driver.configure(driver.read_declaration(dictionary_of_it, 1).of("a"));
    TestLayer layer = one.width == 4 ? four_bits("a") : eight_bits("a");
    Produced produced = driver.produce(layer);
    const std::string kernel = produced.answer.kernel;
    const auto weight = driver.dequantize(layer, produced, 0, kRows, kColumns);
    Json found = driver.saved_declaration();
    TestLayer again;
    again.path = "a";
    again.out = kRows;
    again.in = kColumns;
    again.part("a", 0, kRows);
    for (const Driver::Saved& saved : driver.save(layer, produced)) {
      const std::vector<uint64_t> shape(saved.shape.shape, saved.shape.shape + saved.shape.rank);
      again.tensor(saved.name, saved.shape.dtype, shape, saved.bytes, saved.part);
    }
    driver.configure(driver.read_declaration(found, 0).of("a"));
    Produced reloaded = driver.produce(again);
    EXPECT_EQ(reloaded.answer.kernel, kernel);
    EXPECT_EQ(driver.dequantize(again, reloaded, 0, kRows, kColumns), weight);
    for (const char* key : {"quant_method", "ignored_layers", "is_checkpoint_mxfp4_serialized",
                            "is_checkpoint_mxfp8_serialized"}) {
      found.erase(key);
    }
    EXPECT_EQ(found, one.declared);
  }
}

TEST_F(AutoRoundMx, BitsThatNoFormatHasAreRefused) {
  EXPECT_EQ(
      refusal(
          [&] {
            mxfp4.read_declaration(dictionary(4, {{"extra_config", {{"a", {{"bits", 6}}}}}}), 1);
          },
          LS_UNSUPPORTED),
      "declaration rejected: extra_config.a.bits: found 6, expected 4, 8 or 16");
  EXPECT_EQ(refusal([&] {
              mxfp4.read_declaration(dictionary(4, {{"act_bits", "4"}}), 1);
            }),
            "declaration rejected: act_bits: found 4, expected an integer");
}

}  // namespace
}  // namespace loadstone::mxfp4
