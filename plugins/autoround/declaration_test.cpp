#include <gtest/gtest.h>

#include "common/testing/driver.hpp"

namespace loadstone::autoround {
namespace {

using common::testing::Declared;
using common::testing::Driver;
using common::testing::Json;
using common::testing::Refusal;

class AutoRoundDeclaration : public ::testing::Test {
 protected:
  AutoRoundDeclaration() : driver("autoround") {}
  std::string refusal_of(const Json& declaration) {
    try {
      driver.read_declaration(declaration);
      return "accepted";
    } catch (const Refusal& refusal) {
      return refusal.what();
    }
  }
  static bool has_scope(const Declared& declared, const std::string& pattern, uint32_t style,
                        bool keep) {
    for (const auto& scope : declared.scopes) {
      if (scope.pattern == pattern && scope.style == style && scope.keep == keep) return true;
    }
    return false;
  }
  Driver driver;
};

TEST_F(AutoRoundDeclaration, PackingFollowsTheToolAndItsFormat) {
  struct Case {
    Json declaration;
    const char* packing;
  };
  const Case cases[] = {
      {{{"quant_method", "auto-round"}}, "auto_round:auto_gptq"},
      {{{"quant_method", "auto-round"}, {"packing_format", "auto_round"}}, "auto_round"},
      {{{"quant_method", "auto-round"}, {"packing_format", "auto_round:auto_awq"}},
       "auto_round:auto_awq"},
      {{{"quant_method", "gptq"}}, "auto_round:auto_gptq"},
      {{{"quant_method", "gptq"}, {"checkpoint_format", "gptq_v2"}}, "auto_round:gptqmodel"},
      {{{"quant_method", "gptq"}, {"format", "gptq"}}, "auto_round:auto_gptq"},
      {Json::object(), "auto_round:auto_gptq"},  // a bare quantize_config.json
      {{{"quant_method", "awq"}, {"version", "gemm"}}, "auto_round:auto_awq"},
  };
  for (Case one : cases) {
    one.declaration["bits"] = 4;
    one.declaration["group_size"] = 128;
    EXPECT_EQ(driver.read_declaration(one.declaration).value("packing_format"), one.packing)
        << one.declaration;
  }
}

TEST_F(AutoRoundDeclaration, AwqsOldKeysWork) {
  const Declared declared = driver.read_declaration(
      {{"quant_method", "awq"}, {"w_bit", 4}, {"q_group_size", 64}, {"version", "GEMM"}});
  EXPECT_EQ(declared.value("bits"), 4);
  EXPECT_EQ(declared.value("group_size"), 64);
}

TEST_F(AutoRoundDeclaration, ExtraConfigIsDeclaredByModule) {
  const Declared declared =
      driver.read_declaration({{"quant_method", "auto-round"},
                               {"bits", 4},
                               {"group_size", 128},
                               {"sym", false},
                               {"block_name_to_quantize", "model.layers, visual.blocks"},
                               {"extra_config",
                                {{"model.layers.0.down", {{"bits", 8}}},
                                 {"model.layers.1.o", {{"group_size", 32}, {"act_bits", 16}}},
                                 {".*visual.*", {{"bits", 2}}},
                                 {"lm_head", {{"bits", 16}}}}}});
  EXPECT_EQ(declared.of("model.layers.0.down")["bits"], 8);
  EXPECT_EQ(declared.of("thinker.model.layers.1.o")["group_size"], 32);
  EXPECT_EQ(declared.of("a.visual.b")["bits"], 2);
  EXPECT_EQ(declared.of("model.layers.5.q")["bits"], 4);
  EXPECT_EQ(declared.value("sym"), false);
  EXPECT_TRUE(has_scope(declared, "model.layers", LS_STYLE_PREFIX, false));
  EXPECT_TRUE(has_scope(declared, "visual.blocks", LS_STYLE_PREFIX, false));
  EXPECT_TRUE(has_scope(declared, "lm_head", LS_STYLE_EXACT, true));
  EXPECT_TRUE(has_scope(declared, ".*visual.*", LS_STYLE_REGEX, false));
}

TEST_F(AutoRoundDeclaration, KeptModulesOfGptqAndAwq) {
  EXPECT_TRUE(has_scope(driver.read_declaration({{"quant_method", "gptq"},
                                                 {"bits", 4},
                                                 {"group_size", 32},
                                                 {"lm_head", false},
                                                 {"desc_act", true}}),
                        "lm_head", LS_STYLE_SUFFIX, true));
  EXPECT_TRUE(
      has_scope(driver.read_declaration({{"quant_method", "awq"},
                                         {"bits", 4},
                                         {"group_size", 32},
                                         {"modules_to_not_convert", {"visual", "lm_head"}}}),
                "visual", LS_STYLE_SEGMENTS, true));
}

TEST_F(AutoRoundDeclaration, GptqModelsDynamicRulesApply) {
  const Declared declared = driver.read_declaration(
      {{"quant_method", "gptq"},
       {"bits", 4},
       {"group_size", 128},
       {"dynamic", {{"+:.*down_proj", {{"bits", 8}}}, {"-:.*lm_head", Json::object()}}}});
  EXPECT_EQ(declared.of("model.layers.0.mlp.down_proj")["bits"], 8);
  EXPECT_TRUE(has_scope(declared, "^(?:.*lm_head)", LS_STYLE_REGEX, true));
}

TEST_F(AutoRoundDeclaration, LayoutsOfOtherToolsAreRefusedByKey) {
  struct Case {
    Json declaration;
    const char* text;
  };
  const Case cases[] = {
      {{{"quant_method", "gptq"}, {"checkpoint_format", "marlin"}},
       "declaration rejected: checkpoint_format: found marlin, expected gptq or gptq_v2"},
      {{{"quant_method", "gptq"}, {"is_marlin_format", true}},
       "declaration rejected: is_marlin_format: found true, expected the gptq layout"},
      {{{"quant_method", "gptq"}, {"pack_dtype", "int8"}},
       "declaration rejected: pack_dtype: found int8, expected int32"},
      {{{"quant_method", "awq"}, {"version", "gemv"}},
       "declaration rejected: version: found gemv, expected gemm"},
      {{{"quant_method", "auto-round"}, {"data_type", "fp"}},
       "declaration rejected: data_type: found fp, expected int or nv_fp"},
      {{{"quant_method", "auto-round"},
        {"data_type", "nv_fp"},
        {"act_bits", 8},
        {"act_data_type", "fp"}},
       "declaration rejected: act_data_type: found fp, expected nv_fp"},
      {{{"quant_method", "auto-round"}, {"extra_config", {{"a", 4}}}},
       "declaration rejected: extra_config.a: found 4, expected a map of bits and group_size"},
  };
  for (Case one : cases) {
    one.declaration["bits"] = 4;
    one.declaration["group_size"] = 128;
    EXPECT_EQ(refusal_of(one.declaration), one.text);
  }
  EXPECT_EQ(refusal_of({{"quant_method", "gptq"}, {"group_size", 128}}),
            "declaration rejected: bits: found nothing, expected an integer");
  EXPECT_EQ(refusal_of({{"quant_method", "gptq"}, {"bits", 4}, {"group_size", "128"}}),
            "declaration rejected: group_size: found 128, expected an integer");
}

}  // namespace
}  // namespace loadstone::autoround
