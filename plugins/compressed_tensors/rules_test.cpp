// Which dictionaries are read, which refused and in which words, and which scheme a layer has.
#include "compressed_tensors/testing.hpp"

namespace loadstone::compressed_tensors {
namespace {

using namespace common::testing;

class Rules : public ::testing::Test {
 protected:
  std::string refusal_of(const Json& groups, const Json& more = Json::object()) {
    Json all = {{"config_groups", groups}};
    all.update(more);
    return any_refusal([&] { driver.configure(all); });
  }
  std::string refusal_of_declaration(const Json& more) {
    Json all = {{"quant_method", "compressed-tensors"}, {"config_groups", one_group(channel8())}};
    all.update(more);
    return any_refusal([&] { driver.read_declaration(all); });
  }
  Driver driver{"compressed_tensors"};
};

struct Case {
  Json change;  // of a scheme of int8 weights
  std::string text;
};

TEST_F(Rules, WhatNoSchemeIsAndWhatNothingComputesIsRefusedByItsKey) {
  const std::string weights = "config_groups.group_0.weights";
  const std::string input = "config_groups.group_0.input_activations";
  const Json floats = {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}};
  const Case cases[] = {
      {{{"weights", {{"num_bits", 8}, {"strategy", "attn_head"}}}},
       weights +
           ".strategy rejected: found \"attn_head\", expected tensor, channel, group, block, token "
           "or tensor_group: scales of attention heads are not a layer's"},
      {{{"weights", {{"strategy", "rows"}}}},
       weights +
           ".strategy rejected: found \"rows\", expected tensor, channel, group, block, token "
           "or tensor_group"},
      {{{"weights", {{"num_bits", 9}, {"strategy", "channel"}}}},
       weights + ".num_bits rejected: found 9, expected 1 to 8 of pack-quantized"},
      {{{"weights", {{"num_bits", "8"}}}},
       weights + ".num_bits rejected: found \"8\", expected an integer from 1 to 16"},
      {{{"weights", {{"bits", 8}}}},
       weights + " rejected: found unknown key \"bits\", expected num_bits, type, symmetric, "
                 "strategy, group_size, block_structure, dynamic, actorder, scale_dtype, zp_dtype, "
                 "observer or observer_kwargs"},
      {{{"weights", {{"strategy", "group"}}}},
       weights + ".group_size rejected: found nothing, expected a positive number with strategy "
                 "group"},
      {{{"weights", {{"type", "float"}, {"strategy", "block"}}}},
       weights + ".block_structure rejected: found nothing, expected [rows, columns] with strategy "
                 "block"},
      {{{"weights", {{"type", "float"}, {"strategy", "block"}, {"block_structure", "128x"}}}},
       weights + ".block_structure rejected: found \"128x\", expected [rows, columns]"},
      {{{"weights", {{"strategy", "channel"}, {"dynamic", true}}}},
       weights + ".dynamic rejected: found a dynamic weight, expected false of pack-quantized"},
      {{{"weights", {{"strategy", "channel"}, {"actorder", "group"}}}, {"format", "int-quantized"}},
       weights + ".actorder rejected: found group, expected null or weight (\"weight_g_idx\" is a "
                 "tensor of pack-quantized) of int-quantized"},
      {{{"weights", {{"type", "float"}, {"strategy", "channel"}, {"symmetric", false}}}},
       weights + ".symmetric rejected: found false, expected true of float-quantized"},
      {{{"weights", {{"strategy", "tensor"}, {"symmetric", false}}}},
       weights +
           ".symmetric rejected: found false with one scale, expected true of pack-quantized"},
      {{{"weights", {{"num_bits", 4}, {"type", "float"}, {"group_size", 64}}},
        {"format", "nvfp4-pack-quantized"}},
       weights + ".group_size rejected: found 64, expected 16 of nvfp4-pack-quantized"},
      {{{"format", "marlin-24"}},
       "config_groups.group_0.format rejected: found \"marlin-24\", expected float-quantized, "
       "int-quantized, naive-quantized, pack-quantized, nvfp4-pack-quantized, "
       "mxfp4-pack-quantized, mxfp8-quantized, mixed-precision or dense: 2:4 sparse weights in the "
       "order of one kernel are not implemented"},
      {{{"output_activations", {{"num_bits", 8}}}},
       "config_groups.group_0.output_activations rejected: found a scheme, expected null: outputs "
       "of layers are not quantized here"},
      {{{"targets", "Linear"}},
       "config_groups.group_0.targets rejected: found \"Linear\", expected a list of module names, "
       "classes or re: patterns"},
      {{{"kind", "x"}},
       "config_groups.group_0 rejected: found unknown key \"kind\", expected targets, weights, "
       "input_activations, output_activations or format"},
      {{{"input_activations", {{"num_bits", 6}, {"strategy", "token"}, {"dynamic", true}}}},
       input + ".num_bits rejected: found 6, expected 4 or 8"},
      {{{"input_activations", {{"strategy", "token"}, {"dynamic", true}, {"symmetric", false}}}},
       input +
           ".symmetric rejected: found false, expected true: zero points of activations are not "
           "implemented"},
      {{{"input_activations", {{"strategy", "tensor"}, {"dynamic", true}}}},
       input + " rejected: found {\"strategy\":\"tensor\",\"dynamic\":true}, expected a dynamic "
               "scale a token, or a static one of 8 bits"},
      {{{"weights", floats}, {"input_activations", {{"strategy", "token"}, {"dynamic", true}}}},
       input + ".type rejected: found int, expected float with weights of float-quantized"},
      {{{"weights", floats},
        {"input_activations",
         {{"type", "float"}, {"strategy", "group"}, {"group_size", 128}, {"dynamic", true}}}},
       input + " rejected: found {\"type\":\"float\",\"strategy\":\"group\",\"group_size\":128,"
               "\"dynamic\":true}, expected a dynamic scale a token, a static one, or dynamic "
               "groups as wide as the weight's blocks"},
  };
  for (const Case& one : cases) {
    Json groups = one_group(channel8());
    groups["group_0"].update(one.change);
    EXPECT_EQ(refusal_of(groups), one.text);
  }
  EXPECT_EQ(refusal_of({{"W8A8", {"Linear"}}}),
            "config_groups.W8A8 rejected: found [\"Linear\"], expected a map of targets, weights "
            "and input_activations (names of presets are written out by the tool)");
}

TEST_F(Rules, EveryPresetOfTheToolConfigures) {
  const Json token8 = {{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
  Json token4 = token8;
  token4["num_bits"] = 4;
  const Json fp8_token = {
      {"num_bits", 8}, {"type", "float"}, {"strategy", "token"}, {"dynamic", true}};
  const Json mx4 = {{"num_bits", 4},
                    {"type", "float"},
                    {"strategy", "group"},
                    {"group_size", 32},
                    {"scale_dtype", "torch.uint8"}};
  Json mx8 = mx4, mx4_input = mx4, mx8_input, nvfp4_input;
  mx8["num_bits"] = 8;
  mx4_input["dynamic"] = true;
  mx8_input = mx8;
  mx8_input["dynamic"] = true;
  const Json nvfp4 = {
      {"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}, {"group_size", 16}};
  nvfp4_input = nvfp4;
  nvfp4_input["dynamic"] = "local";
  const Json fp8_block = {
      {"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {128, 128}}};
  const Json fp8_group = {{"num_bits", 8},
                          {"type", "float"},
                          {"strategy", "group"},
                          {"group_size", 128},
                          {"dynamic", true}};
  const std::pair<Json, Json> presets[] = {
      {channel8(), token8},
      {group_of(2, 128), token4},
      {group_of(4, 128), Json()},
      {group_of(4, 128), token8},
      {group_of(4, 128), fp8_token},
      {group_of(3, 64), Json()},
      {nvfp4, Json()},
      {nvfp4, nvfp4_input},
      {mx4, Json()},
      {mx4, mx4_input},
      {mx4, mx8_input},
      {mx8, Json()},
      {mx8, mx8_input},
      {fp8_block, fp8_group},
  };
  for (const auto& [weights, input] : presets) {
    EXPECT_NO_THROW(driver.configure({{"config_groups", one_group(weights, input)}}))
        << weights << input;
  }
}

TEST_F(Rules, Mxfp8IsToldByItsScalesUnderItsOlderName) {
  const Json weights = {{"num_bits", 8},
                        {"type", "float"},
                        {"strategy", "group"},
                        {"group_size", 32},
                        {"scale_dtype", "torch.uint8"}};
  Json input = weights;
  input["dynamic"] = true;
  driver.configure({{"config_groups", one_group(weights, input)}, {"format", "float-quantized"}});
  TestLayer layer = empty_layer(2, 32);
  layer.tensor("weight", LS_DTYPE_F8_E4M3, {2, 32}, std::vector<uint8_t>(64, 0x38));
  layer.tensor("weight_scale", LS_DTYPE_U8, {2, 1}, std::vector<uint8_t>{127, 128});
  EXPECT_EQ(driver.plan(layer).kernel, "mxfp8_w8a8");
}

TEST_F(Rules, WhatADeclarationSaysMoreIsReadOrRefused) {
  const std::pair<Json, std::string> cases[] = {
      {{{"sparsity_config", {{"format", "sparse-24-bitmask"}}}},
       "declaration rejected: sparsity_config: found format \"sparse-24-bitmask\", expected {} or "
       "format \"dense\": sparse weights are not implemented"},
      {{{"transform_config", {{"config_groups", {{"R3", {{"type", "hadamard"}}}}}}}},
       "declaration rejected: transform_config: found R3 of type \"hadamard\", expected {}: "
       "rotations of activations (Hadamard and others) are not implemented"},
      {{{"format", "fakequant"}},
       "declaration rejected: format rejected: found \"fakequant\", expected float-quantized, "
       "int-quantized, naive-quantized, pack-quantized, nvfp4-pack-quantized, "
       "mxfp4-pack-quantized, mxfp8-quantized, mixed-precision or dense: its weights are plain and "
       "rounded while running"},
      {{{"ignore", "lm_head"}},
       "declaration rejected: ignore: found lm_head, expected a list of module names"},
      {{{"quantisation", 1}},
       "declaration rejected: found unknown key \"quantisation\", expected config_groups, format, "
       "ignore, kv_cache_scheme, quantization_status, sparsity_config, transform_config, version, "
       "provider or global_compression_ratio"},
      {{{"config_groups", Json()}},
       "declaration rejected: config_groups: found , expected a map of groups"},
  };
  for (const auto& [more, text] : cases) EXPECT_EQ(refusal_of_declaration(more), text);
}

TEST_F(Rules, IgnoredModulesAreKeptAndTheRestDeclared) {
  const Declared declared = driver.read_declaration({{"quant_method", "compressed-tensors"},
                                                     {"format", "int-quantized"},
                                                     {"config_groups", one_group(channel8())},
                                                     {"ignore", {"lm_head", "re:.*router$"}},
                                                     {"kv_cache_scheme", {{"num_bits", 8}}},
                                                     {"sparsity_config", {{"format", "dense"}}},
                                                     {"transform_config", Json::object()},
                                                     {"quantization_status", "frozen"},
                                                     {"global_compression_ratio", 1.5},
                                                     {"version", "0.19.0"}});
  ASSERT_EQ(declared.scopes.size(), 2u);
  EXPECT_EQ(declared.scopes[0].pattern, "lm_head");
  EXPECT_EQ(declared.scopes[0].style, uint32_t{LS_STYLE_EXACT});
  EXPECT_EQ(declared.scopes[1].pattern, "^(?:.*router$)");
  EXPECT_EQ(declared.scopes[1].style, uint32_t{LS_STYLE_REGEX});
  EXPECT_TRUE(declared.scopes[1].keep);
  EXPECT_EQ(declared.value("format"), "int-quantized");
  EXPECT_EQ(declared.value("kv_cache_scheme"), (Json{{"num_bits", 8}}));
  EXPECT_EQ(declared.value("is_checkpoint_compressed_tensors_serialized"), true);
}

// ---- schemes of layers -------------------------------------------------------------------------

/// Groups "by_class" (rows), "by_regex" and "by_name" (one scale), told apart by their kernels.
Json three_groups() {
  const Json tensor = {{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}};
  const Json input = {{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
  Json fixed = {{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}};
  Json out = {{"group_0", {{"targets", {"Linear"}}, {"weights", channel8()}}},
              {"group_1", {{"targets", {"re:.*to_q$"}}, {"weights", tensor}}},
              {"group_2", {{"targets", {"blocks.1.to_q"}}, {"weights", channel8()}}}};
  for (const char* name : {"group_0", "group_1"}) out[name]["input_activations"] = input;
  out["group_2"]["input_activations"] = fixed;
  return out;
}

std::string kernel_of(Driver& driver, const std::string& module, bool one_scale) {
  TestLayer layer = int8_layer(4, 32, one_scale ? 1 : 4, module);
  layer.tensor("input_scale", LS_DTYPE_F32, {1}, std::vector<float>{0.5f});
  return driver.plan(layer).kernel;
}

TEST_F(Rules, NamesBeatClassesAndTheFirstGroupThatNamesAModuleHasIt) {
  driver.configure({{"config_groups", three_groups()}});
  EXPECT_EQ(kernel_of(driver, "blocks.0.to_out", false), "int8_channel_int8_token");
  EXPECT_EQ(kernel_of(driver, "blocks.0.to_q", true), "int8_tensor_int8_token");
  EXPECT_EQ(kernel_of(driver, "blocks.1.to_q", true), "int8_tensor_int8_token");
  Json swapped = three_groups();
  swapped["group_1"].swap(swapped["group_2"]);
  driver.configure({{"config_groups", swapped}});
  EXPECT_EQ(kernel_of(driver, "blocks.1.to_q", false), "int8_channel_int8_static");
}

TEST_F(Rules, PatternsBeginAtTheNamesStartOrAtTheComponents) {
  for (const char* target : {"re:blocks\\.0", "re:transformer\\.blocks",
                             "transformer.blocks.0.to_q", "blocks.0.to_q", "QKVParallelLinear"}) {
    Json groups = one_group(channel8());
    groups["group_0"]["targets"] = {target};
    driver.configure({{"config_groups", groups}, {"format", "int-quantized"}});
    EXPECT_EQ(kernel_of(driver, "blocks.0.to_q", false), "int8_channel_weight_only") << target;
  }
  for (const char* target : {"re:to_q", "to_q", "blocks.0", "Embedding"}) {
    Json groups = one_group(channel8());
    groups["group_0"]["targets"] = {target};
    driver.configure({{"config_groups", groups}});
    EXPECT_EQ(any_refusal([&] { kernel_of(driver, "blocks.0.to_q", false); }),
              "quantized weight without a scheme: blocks.0.to_q.weight: found it in no target of "
              "config_groups that has weights, expected one")
        << target;
  }
}

TEST_F(Rules, PatternsMustCompile) {
  Json groups = one_group(channel8());
  groups["group_0"]["targets"] = {"re:(to_q"};
  const std::string text =
      "pattern rejected: found \"re:(to_q\", expected an RE2 expression after re:";
  EXPECT_EQ(refusal_of(groups), text);
  EXPECT_EQ(refusal_of(one_group(channel8()), {{"ignore", {"re:(to_q"}}}), text);
}

TEST_F(Rules, PartsOfDifferentSchemesAreTreatedApart) {
  driver.configure({{"config_groups", three_groups()}});
  TestLayer fused = int8_layer(4, 32, 4, "blocks.0.to_out");
  fused.out = 8;
  fused.part("blocks.0.to_q", 4, 4);
  fused.tensor("weight", LS_DTYPE_I8, {4, 32}, std::vector<int8_t>(128, 1), 1);
  fused.tensor("weight_scale", LS_DTYPE_F32, {1}, std::vector<float>{1.0f}, 1);
  const Answer answer = driver.plan(fused);
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_SPLIT});
  EXPECT_EQ(answer.reason, "parts have different schemes: group_0 and group_1");
}

TEST_F(Rules, TheUsersOwnListIsAnIgnoreListToo) {
  driver.configure({{"config_groups", one_group(channel8())}, {"ignore", {"re:.*to_out"}}});
  TestLayer out = int8_layer(4, 32, 4, "blocks.0.to_out"),
            q = int8_layer(4, 32, 4, "blocks.0.to_q");
  EXPECT_EQ(driver.ignored(out), "re:.*to_out");
  EXPECT_EQ(driver.ignored(q), "");
}

TEST_F(Rules, PlainWeightsAreNotQuantizedHereAndKeptInACheckpoint) {
  TestLayer layer = empty_layer(4, 32);
  layer.tensor("weight", LS_DTYPE_F32, {4, 32}, std::vector<float>(128, 1.0f));
  driver.configure({{"config_groups", one_group(channel8())}});
  EXPECT_EQ(driver.plan(layer).work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
  EXPECT_EQ(
      driver.plan(layer).reason,
      "found plain weights, expected quantized ones: compressed-tensors checkpoints are read, "
      "not made");
  driver.configure({{"config_groups", one_group(channel8())},
                    {"is_checkpoint_compressed_tensors_serialized", true}});
  EXPECT_EQ(driver.plan(layer).work.verdict, uint32_t{LS_VERDICT_KEEP});
  layer.tensor("weight_scale", LS_DTYPE_F32, {4, 1}, std::vector<float>(4, 1.0f));
  EXPECT_EQ(any_refusal([&] { driver.plan(layer); }),
            "weight is plain beside its scale: blocks.0.linear.weight: found F32, expected codes: "
            "weights that are rounded while running are not read");
}

TEST_F(Rules, WithoutGroupsQuantizedWeightsAreNotRead) {
  driver.configure(Json::object());
  TestLayer layer = int8_layer(4, 32, 4);
  EXPECT_EQ(any_refusal([&] { driver.plan(layer); }),
            "config_groups missing: found I8 weights, expected a scheme in the configuration or "
            "the checkpoint's declaration");
}

}  // namespace
}  // namespace loadstone::compressed_tensors
