#include "graph/graph.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "graph/adapter.hpp"
#include "graph/modules.hpp"
#include "graph/path_table.hpp"
#include "graph/shapes.hpp"

namespace loadstone::graph {
namespace {

std::string adapters() { return std::string(LOADSTONE_SOURCE_DIR) + "/model_adapters"; }

formats::TensorEntry tensor(std::string name, DType dtype, std::vector<uint64_t> shape) {
  formats::TensorEntry out;
  out.name = std::move(name);
  out.dtype = dtype;
  out.shape.assign(shape.begin(), shape.end());
  return out;
}

formats::Component component(std::string name, std::string class_name,
                             std::vector<formats::TensorEntry> tensors) {
  formats::Component out;
  out.name = std::move(name);
  out.class_name = std::move(class_name);
  out.tensors = std::move(tensors);
  return out;
}

formats::Checkpoint checkpoint(std::vector<formats::Component> components) {
  formats::Checkpoint out;
  out.path = "m";
  out.files.push_back(formats::FileEntry{"m/model.safetensors", nullptr, {}});
  out.components = std::move(components);
  return out;
}

// ---- patterns -------------------------------------------------------------------------------

TEST(PathTable, TheMostSpecificPatternWins) {
  PathTable table;
  EXPECT_TRUE(table.add("a.*.c", 0));
  EXPECT_TRUE(table.add("a.b.c", 1));
  EXPECT_TRUE(table.add("**.c", 2));
  EXPECT_TRUE(table.add("**.b.c", 3));
  EXPECT_TRUE(table.add("a.*.*.d", 4));
  EXPECT_FALSE(table.add("a.b.c", 5));
  EXPECT_EQ(table.find("a.b.c")->value, 1u);
  EXPECT_EQ(table.find("a.x.c")->value, 0u);
  EXPECT_EQ(table.find("x.b.c")->value, 3u);
  EXPECT_EQ(table.find("x.y.c")->value, 2u);
  EXPECT_FALSE(table.find("a.b"));
  EXPECT_FALSE(table.find("a.b.c.d.e"));
  auto hit = table.find("a.1.2.d");
  EXPECT_EQ(hit->value, 4u);
  EXPECT_EQ(hit->captures, (std::vector<std::string_view>{"1", "2"}));
  EXPECT_EQ(fill("x.*.y.*", hit->captures), "x.1.y.2");
}

TEST(PathTable, BacktracksOverLiterals) {
  PathTable table;
  table.add("a.b.c", 0);
  table.add("a.*.d", 1);
  EXPECT_EQ(table.find("a.b.d")->value, 1u);
  EXPECT_EQ(table.find("a.b.d")->captures, (std::vector<std::string_view>{"b"}));
}

TEST(Braces, ExpandInOrderAndCountTheLastGroup) {
  std::vector<std::pair<std::string, size_t>> out;
  for (const Expanded& one : expand_braces("{a,b}.x.{c,d}")) out.emplace_back(one.text, one.last);
  EXPECT_EQ(out, (std::vector<std::pair<std::string, size_t>>{
                     {"a.x.c", 0}, {"a.x.d", 1}, {"b.x.c", 0}, {"b.x.d", 1}}));
  EXPECT_EQ(expand_braces("plain").size(), 1u);
}

// ---- modules --------------------------------------------------------------------------------

std::string modules_of(std::vector<std::string> names, std::vector<std::string> strip = {}) {
  formats::Component owner;
  for (std::string& name : names) owner.tensors.push_back(tensor(name, DType::F32, {2, 2}));
  std::string out;
  for (const Module& module : split_modules(owner, nullptr, strip)) {
    out += module.name + "(";
    for (const ModuleTensor& one : module.tensors) out += one.suffix + ",";
    out += ")";
  }
  return out;
}

TEST(Modules, TensorsGoToTheirWeight) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"a.weight", "a.bias", "b.weight"}, "a(weight,bias,)b(weight,)"},
      {{"a.weight_scale", "a.input_scale", "a.weight"}, "a(weight_scale,input_scale,weight,)"},
      {{"a.qweight", "a.qzeros", "a.scales", "a.g_idx"}, "a(qweight,qzeros,scales,g_idx,)"},
      {{"a.weight_packed", "a.weight_shape"}, "a(weight_packed,weight_shape,)"},
      {{"a.weight", "a.comfy_quant"}, "a(weight,comfy_quant,)"},
      {{"a.b.pos_embed"}, "a.b.pos_embed(,)"},
      {{"a.scale_shift_table", "a.b.weight"}, "a.scale_shift_table(,)a.b(weight,)"},
      {{"top"}, "top(,)"},
      {{"weight"}, "weight(,)"},
      {{"a.attn.k_scale", "a.attn.v_scale"}, "a.attn(k_scale,v_scale,)"},
      {{"a.k.linear.weight", "a.k.linear.bias", "a.k.div.mul_scale"},
       "a.k(linear.weight,linear.bias,div.mul_scale,)"},
      {{"a.norm.linear.weight"}, "a.norm.linear(weight,)"},
      {{"a.k.div.mul_scale"}, "a.k.div.mul_scale(,)"},
      {{"a.norm.scale"}, "a.norm.scale(,)"},
  };
  for (const auto& [names, expected] : cases) EXPECT_EQ(modules_of(names), expected);
  EXPECT_EQ(modules_of({"p.q.a.weight", "a.bias"}, {"p.q."}), "a(weight,bias,)");
}

TEST(Shapes, WhatTensorsSayAboutTheMatrix) {
  struct Case {
    std::vector<formats::TensorEntry> tensors;
    LayerKind kind;
    uint64_t out, in;
  };
  const Case cases[] = {
      {{tensor("a.weight", DType::BF16, {8, 4})}, LayerKind::linear, 8, 4},
      {{tensor("a.weight", DType::BF16, {8})}, LayerKind::other, 0, 0},
      {{tensor("a.weight", DType::BF16, {8, 4, 3, 3})}, LayerKind::other, 0, 0},
      {{tensor("a.weight", DType::F8_E4M3, {8, 4}), tensor("a.weight_scale", DType::F32, {})},
       LayerKind::linear,
       8,
       4},
      {{tensor("a.weight", DType::U8, {4, 16}), tensor("a.weight_scale", DType::F32, {8, 1})},
       LayerKind::linear,
       8,
       0},
      {{tensor("a.weight", DType::I8, {4, 16}), tensor("a.bias", DType::F32, {8})},
       LayerKind::linear,
       8,
       0},
      {{tensor("a.weight", DType::I8, {8, 16}), tensor("a.bias", DType::F32, {8})},
       LayerKind::linear,
       8,
       16},
      {{tensor("a.qweight", DType::I32, {2, 8}), tensor("a.scales", DType::F16, {1, 8})},
       LayerKind::linear,
       8,
       0},
      {{tensor("a.weight_packed", DType::I32, {8, 2})}, LayerKind::linear, 8, 0},
      {{tensor("a.k_scale", DType::F32, {})}, LayerKind::attention, 0, 0},
      {{tensor("a", DType::F32, {8, 4})}, LayerKind::other, 0, 0},
  };
  for (const Case& one : cases) {
    formats::Component owner = component("", "", one.tensors);
    auto modules = split_modules(owner, nullptr, {});
    ASSERT_EQ(modules.size(), 1u);
    Matrix matrix = matrix_of(owner, modules[0], false);
    EXPECT_EQ(matrix.kind, one.kind) << one.tensors[0].name;
    EXPECT_EQ(matrix.out, one.out) << one.tensors[0].name;
    EXPECT_EQ(matrix.in, one.in) << one.tensors[0].name;
  }
  formats::Component stack = component("", "", {tensor("experts.up", DType::BF16, {3, 8, 4})});
  auto modules = split_modules(stack, nullptr, {});
  Matrix matrix = matrix_of(stack, modules[0], true);
  EXPECT_EQ(matrix.kind, LayerKind::grouped_linear);
  EXPECT_EQ(matrix.groups, 3u);
  EXPECT_EQ(matrix_of(stack, modules[0], false).kind, LayerKind::other);
}

// ---- graphs ---------------------------------------------------------------------------------

const Layer* find(const Graph& graph, const std::string& path) {
  for (const Layer& layer : graph.layers) {
    if (layer.path == path) return &layer;
  }
  return nullptr;
}

TEST(BuildGraph, FusionFollowsThePartsThatExist) {
  auto graph = build_graph(
      checkpoint({component("", "QwenImageTransformer2DModel",
                            {tensor("transformer_blocks.0.attn.to_v.weight", DType::BF16, {4, 8}),
                             tensor("transformer_blocks.0.attn.to_q.weight", DType::BF16, {8, 8}),
                             tensor("transformer_blocks.0.attn.to_q.bias", DType::BF16, {8})})}),
      adapters());
  ASSERT_TRUE(graph.ok()) << graph.error().text();
  EXPECT_EQ(graph->components[0].name, "transformer");
  const Layer* layer = find(*graph, "transformer_blocks.0.attn.to_qkv");
  ASSERT_NE(layer, nullptr);
  ASSERT_EQ(layer->parts.size(), 2u);
  EXPECT_EQ(layer->parts[0].name, "transformer_blocks.0.attn.to_q");
  EXPECT_EQ(layer->parts[0].out_begin, 0u);
  EXPECT_EQ(layer->parts[1].name, "transformer_blocks.0.attn.to_v");
  EXPECT_EQ(layer->parts[1].out_begin, 8u);
  EXPECT_EQ(layer->out, 12u);
  EXPECT_EQ(layer->in, 8u);
  EXPECT_TRUE(layer->has_bias);
  EXPECT_EQ(layer->role, "attention.qkv");
  ASSERT_EQ(layer->tensors.size(), 3u);
  EXPECT_EQ(layer->tensors[0].part, 0u);
  EXPECT_EQ(layer->tensors[2].part, 1u);
}

TEST(BuildGraph, AFileThatHoldsAFusedMatrix) {
  auto graph = build_graph(
      checkpoint({component("", "WanTransformer3DModel",
                            {tensor("blocks.0.attn1.to_qkv.weight", DType::F8_E4M3, {24, 8})})}),
      adapters());
  ASSERT_TRUE(graph.ok());
  const Layer* layer = find(*graph, "blocks.0.attn1.to_qkv");
  ASSERT_NE(layer, nullptr);
  EXPECT_EQ(layer->holds, (std::vector<std::string>{"blocks.0.attn1.to_q", "blocks.0.attn1.to_k",
                                                    "blocks.0.attn1.to_v"}));
  EXPECT_EQ(layer->role, "attention.qkv");
  EXPECT_TRUE(layer->fallback.quantize);
}

std::vector<formats::TensorEntry> experts(std::vector<int> numbers) {
  std::vector<formats::TensorEntry> out;
  for (int e : numbers) {
    const std::string base = "thinker.model.layers.0.mlp.experts." + std::to_string(e) + ".";
    out.push_back(tensor(base + "up_proj.weight", DType::BF16, {4, 8}));
    out.push_back(tensor(base + "gate_proj.weight", DType::BF16, {4, 8}));
    out.push_back(tensor(base + "down_proj.weight", DType::BF16, {8, 4}));
  }
  return out;
}

TEST(BuildGraph, ExpertsBecomeGroups) {
  auto graph = build_graph(
      checkpoint({component("", "Qwen3OmniMoeForConditionalGeneration", experts({1, 0, 2}))}),
      adapters());
  ASSERT_TRUE(graph.ok()) << graph.error().text();
  const Layer* layer = find(*graph, "thinker.model.layers.0.mlp.experts.w13");
  ASSERT_NE(layer, nullptr);
  EXPECT_EQ(layer->kind, LayerKind::grouped_linear);
  EXPECT_EQ(layer->groups, 3u);
  EXPECT_EQ(layer->out, 8u);
  ASSERT_EQ(layer->parts.size(), 6u);
  EXPECT_EQ(layer->parts[0].shard, "e0.w1");
  EXPECT_EQ(layer->parts[1].shard, "e0.w3");
  EXPECT_EQ(layer->parts[1].out_begin, 4u);
  EXPECT_EQ(layer->parts[5].group, 2u);
  for (const LayerTensor& one : layer->tensors) {
    EXPECT_EQ(one.group, layer->parts[one.part].group);
  }
}

TEST(BuildGraph, MissingExpertsAreAnError) {
  auto graph = build_graph(
      checkpoint({component("", "Qwen3OmniMoeForConditionalGeneration", experts({0, 2}))}),
      adapters());
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.error().text(),
            "fused layer incomplete: m: thinker: thinker.model.layers.0.mlp.experts.w13: found no "
            "expert 1 before \"thinker.model.layers.0.mlp.experts.2.gate_proj\", expected experts "
            "from 0 on, each with the same parts");
}

TEST(BuildGraph, UnevenExpertsAreAnError) {
  auto tensors = experts({0, 1});
  tensors.pop_back();  // 1's down_proj
  tensors.pop_back();  // 1's gate_proj
  auto graph = build_graph(
      checkpoint({component("", "Qwen3OmniMoeForConditionalGeneration", tensors)}), adapters());
  ASSERT_FALSE(graph.ok());
  EXPECT_NE(graph.error().text().find("found experts of 8 and 4 rows"), std::string::npos);
}

TEST(BuildGraph, UnknownModelsAreGeneric) {
  auto graph =
      build_graph(checkpoint({component("", "SomethingElse",
                                        {tensor("embed_tokens.weight", DType::BF16, {8, 4}),
                                         tensor("layers.0.fc.weight", DType::BF16, {4, 4}),
                                         tensor("norm.weight", DType::BF16, {4})})}),
                  adapters());
  ASSERT_TRUE(graph.ok());
  EXPECT_EQ(graph->family, "generic");
  EXPECT_FALSE(graph->family_known);
  EXPECT_EQ(graph->components[0].name, "model");
  EXPECT_EQ(graph->layers[0].kind, LayerKind::gather);
  EXPECT_EQ(graph->layers[1].kind, LayerKind::linear);
  EXPECT_FALSE(graph->layers[1].fallback.quantize);
  EXPECT_TRUE(graph->layers[1].fallback.named);
  EXPECT_EQ(graph->layers[2].kind, LayerKind::other);
}

TEST(BuildGraph, OriginalNamesMapOnlyWhereTheFileHasThem) {
  auto canonical =
      build_graph(checkpoint({component("", "WanTransformer3DModel",
                                        {tensor("blocks.0.attn1.to_q.weight", DType::BF16, {4, 4}),
                                         tensor("blocks.0.norm2.weight", DType::BF16, {4})})}),
                  adapters());
  ASSERT_TRUE(canonical.ok());
  EXPECT_NE(find(*canonical, "blocks.0.norm2"), nullptr);
  auto original =
      build_graph(checkpoint({component("", "WanModel",
                                        {tensor("blocks.0.self_attn.q.weight", DType::BF16, {4, 4}),
                                         tensor("blocks.0.norm2.weight", DType::BF16, {4})})}),
                  adapters());
  ASSERT_TRUE(original.ok());
  EXPECT_NE(find(*original, "blocks.0.norm3"), nullptr);
  const Layer* layer = find(*original, "blocks.0.attn1.to_qkv");
  ASSERT_NE(layer, nullptr);
  EXPECT_EQ(layer->parts[0].name, "blocks.0.self_attn.q");
  EXPECT_EQ(layer->parts[0].path, "blocks.0.attn1.to_q");
}

TEST(BuildGraph, TensorsOfNoComponentAreKeptAndNoted) {
  auto graph =
      build_graph(checkpoint({component("", "Qwen2_5OmniForConditionalGeneration",
                                        {tensor("thinker.lm_head.weight", DType::BF16, {8, 4}),
                                         tensor("stray.x.weight", DType::BF16, {8, 4})})}),
                  adapters());
  ASSERT_TRUE(graph.ok());
  ASSERT_EQ(graph->components.size(), 2u);
  EXPECT_EQ(graph->components[1].name, "other");
  EXPECT_EQ(graph->notes,
            (std::vector<std::string>{"1 tensors, the first \"stray.x.weight\", belong to no "
                                      "component of family qwen2_5_omni: kept as component "
                                      "\"other\""}));
}

TEST(BuildGraph, PrintsItself) {
  auto graph = build_graph(
      checkpoint({component("", "X", {tensor("a.weight", DType::BF16, {2, 3})})}), adapters());
  EXPECT_NE(graph->to_node().to_json().find(
                R"({"component":"model","layer":"a","kind":"linear","role":"","out":2,"in":3,)"),
            std::string::npos);
}

// ---- adapter files --------------------------------------------------------------------------

class AdapterFile : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/adapters_" + std::to_string(::getpid());
    std::filesystem::create_directories(dir_ + "/common");
    std::filesystem::create_directories(dir_ + "/toy");
    std::filesystem::create_directories(dir_ + "/generic");
    write("common/modules.yaml", "modules: {}\n");
    write("generic/adapter.yaml", "components: {\"*\": {kind: unknown, keep: generic}}\n");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + "/" + name) << text;
  }
  std::string refusal(const std::string& text) {
    write("toy/adapter.yaml", text);
    auto read = read_adapters(dir_);
    if (read.ok()) return "accepted";
    EXPECT_EQ(read.error().code, Code::internal);
    std::string out = read.error().text();
    for (size_t at; (at = out.find(dir_)) != std::string::npos;) out.replace(at, dir_.size(), "D");
    return out;
  }
  std::string dir_;
};

TEST_F(AdapterFile, AFamilyIsOneFolder) {
  EXPECT_EQ(refusal(R"(
pipelines: [ToyPipeline]
components:
  net:
    kind: diffusion_transformer
    reach: flat
    classes: [ToyNet]
    modules: {"layers.*.{a,b}": {role: "mlp.{up,down}"}}
)"),
            "accepted");
  auto graph =
      build_graph(checkpoint({component("", "ToyNet",
                                        {tensor("layers.0.a.weight", DType::BF16, {2, 2}),
                                         tensor("layers.0.c.weight", DType::BF16, {2, 2})})}),
                  dir_);
  ASSERT_TRUE(graph.ok()) << graph.error().text();
  EXPECT_EQ(graph->family, "toy");
  EXPECT_EQ(graph->layers[0].role, "mlp.up");
  EXPECT_TRUE(graph->layers[0].fallback.quantize);
  EXPECT_EQ(graph->layers[1].fallback.why, "unknown");
}

TEST_F(AdapterFile, BadFilesSayWhere) {
  const std::pair<std::string, std::string> cases[] = {
      {"summary: [1]\n",
       "adapter value rejected: D/toy/adapter.yaml:1:10: found a list of 1 for "
       "\"summary\", expected a text"},
      {"sumary: x\n",
       "unknown key of an adapter: D/toy/adapter.yaml:1:1: found \"sumary\", expected a "
       "documented key"},
      {"components: {a: {reach: far}}\n",
       "adapter value rejected: D/toy/adapter.yaml:1:25: found \"far\" for \"reach\", expected "
       "flat, "
       "map, declared or stage"},
      {"components: {a: {like: b}}\n",
       "adapter value rejected: D/toy/adapter.yaml:1:24: found \"b\" "
       "for \"like\", expected a component listed before"},
      {"components: {a: {modules: {\"x.{p,q}\": {role: r}, x.p: {role: r}}}}\n",
       "module pattern given twice: D/toy/adapter.yaml:1:50: found \"x.p\", expected each pattern "
       "once"},
      {"edges: [[a, b]]\n",
       "adapter value rejected: D/toy/adapter.yaml:1:9: found a list of 2 for "
       "\"edges\", expected [from, to, carries]"},
      {"a: &x 1\n",
       "yaml refused: D/toy/adapter.yaml:1:4: found an anchor, expected a plain value"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(refusal(text), expected) << text;
}

TEST_F(AdapterFile, ThereMustBeAGenericOne) {
  std::filesystem::remove(dir_ + "/generic/adapter.yaml");
  auto graph = build_graph(checkpoint({component("", "X", {})}), dir_);
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.error().text(),
            "adapters incomplete: found no adapter \"generic\" with a component, "
            "expected one");
}

TEST(Gguf, S26_AnUnknownArchitectureIsShownBesideTheKnownOnes) {
  formats::Component file = component("", "", {tensor("blk.0.a.weight", DType::F32, {2, 2})});
  file.gguf = true;
  file.config = Node::of_map({{"general.architecture", Node::of_text("pig")}});
  const auto graph = build_graph(checkpoint({file}), adapters());
  ASSERT_TRUE(graph.ok()) << graph.error().text();
  EXPECT_FALSE(graph->family_known);
  EXPECT_EQ(
      graph->notes.back(),
      "general.architecture is \"pig\"; adapters know tensors of flux, qwen_image or lumina2");
}

}  // namespace
}  // namespace loadstone::graph
