// Planning after routing, with the toy plugin of core/load/testing.
#include "plan/planner.hpp"

#include <algorithm>
#include <cstring>

#include "load/testing/kit.hpp"
#include "plan/explain.hpp"

namespace loadstone::plan {

namespace {

class Planning : public load::testing::Kit {
 protected:
  Plan planned(const LoadOptions& options = {}) {
    write();
    auto plan = make_plan(options);
    EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
    return plan.ok() ? *std::move(plan) : Plan{};
  }

  std::string error_of(const LoadOptions& options = {}) {
    write();
    auto plan = make_plan(options);
    EXPECT_FALSE(plan.ok());
    return plan.ok() ? "" : plan.error().text();
  }

  static std::vector<std::string> names_of(const LayerPlan& layer) {
    std::vector<std::string> out;
    for (const Stored& stored : layer.stored) out.push_back(stored.name);
    return out;
  }
};

TEST_F(Planning, KeptPartsAreJoinedWhereTheyFit) {
  for (const char* part : {"q", "k", "v"}) {
    tensor(std::string("a.") + part + ".weight", DType::BF16, {8, 16});
    tensor(std::string("a.") + part + ".bias", DType::BF16, {8});
    DType odd = *part == 'v' ? DType::F32 : DType::BF16;
    tensor(std::string("b.") + part + ".weight", odd, {8, 16});
    tensor(std::string("c.") + part + ".weight", DType::BF16, {8, 16});
    tensor(std::string("c.") + part + ".scale", DType::F32, {});
  }
  for (const char* name : {"a", "b", "c"}) {
    std::string n(name);
    layer({n + ".qkv", {n + ".q", n + ".k", n + ".v"}, "", {}});
  }
  Plan plan = planned();
  const LayerPlan& joined = plan_of(plan, "a.qkv");
  EXPECT_EQ(names_of(joined), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(joined.stored[0].shape, (formats::Shape{24, 16}));
  EXPECT_EQ(joined.stored[1].shape, (formats::Shape{24}));
  EXPECT_EQ(names_of(plan_of(plan, "b.qkv")),
            (std::vector<std::string>{"a.weight", "b.weight", "c.weight"}));  // shards a, b, c
  EXPECT_EQ(names_of(plan_of(plan, "c.qkv")),
            (std::vector<std::string>{"weight", "a.scale", "b.scale", "c.scale"}));
}

TEST_F(Planning, PartsRoutedByThemselvesHaveTheirOwnSettings) {
  for (const char* part : {"q", "k"}) {
    tensor(std::string(part) + ".weight", DType::BF16, {8, 16});
  }
  layer({"qk", {"q", "k"}, "double", {}});
  linear("after", 8, 8, "keep");
  write();
  auto decisions = routed();
  ASSERT_TRUE(decisions.ok()) << decisions.error().text();
  Routed& fused = decisions->front();
  fused.reason = "its parts differ";
  fused.from_declaration = decisions->back().from_declaration = true;
  fused.parts = {fused, fused};
  fused.parts[1].choice = decisions->back().choice;
  auto made = plan_routed(checkpoint_, graph(), {}, *decisions, *registry_, {}, {});
  ASSERT_TRUE(made.ok()) << made.error().text();
  ASSERT_EQ(made->layers.size(), 4u);
  EXPECT_EQ(made->layers[0].decision, Decision::split);
  EXPECT_EQ(made->layers[0].reason, "its parts differ");
  EXPECT_EQ(made->layers[1].decision, Decision::quantize);
  EXPECT_EQ(made->layers[2].decision, Decision::keep);
  EXPECT_EQ(made->layers[2].split_from, 0);
  EXPECT_EQ(made->layers[2].reason, "its parts differ; left alone");
}

TEST_F(Planning, PartsOfASplitLayerFollowIt) {
  for (const char* part : {"q", "k"}) {
    tensor(std::string(part) + ".weight", DType::BF16, {8, 16});
  }
  layer({"qk", {"q", "k"}, "split", {}});
  linear("after", 8, 8, "");
  Plan plan = planned();
  ASSERT_EQ(plan.layers.size(), 4u);
  EXPECT_EQ(plan.layers[0].decision, Decision::split);
  EXPECT_EQ(plan.layers[0].reason, "parts apart");
  EXPECT_TRUE(plan.layers[0].stored.empty());
  EXPECT_EQ(plan.layers[0].nbytes_before, 0u);
  for (uint32_t i : {1u, 2u}) {
    EXPECT_EQ(plan.layers[i].split_from, 0);
    EXPECT_EQ(plan.layers[i].decision, Decision::quantize);
    EXPECT_EQ(plan.layers[i].nbytes_before, 256u);
    EXPECT_EQ(plan.layers[i].layer, i);
  }
  EXPECT_EQ(plan.graph.layers[2].path, "k");
  EXPECT_EQ(plan.graph.layers[3].path, "after");
  const Node json = plan.to_node();
  const auto& layers = json.find("layers")->items();
  EXPECT_EQ(layers[0].find("decision")->text(), "split");
  EXPECT_EQ(layers[1].find("group")->text(), "qk");
  EXPECT_TRUE(layers[3].find("group")->is_null());
}

TEST_F(Planning, BiasesOfWrappedPartsAreBiases) {
  for (const char* part : {"q", "k"}) {
    tensor(std::string(part) + ".weight", DType::BF16, {8, 16});
    tensor(std::string(part) + ".linear.bias", DType::BF16, {8});
  }
  tensor("kept.linear.weight", DType::BF16, {8, 16});
  layer({"qk", {"q", "k"}, "split", {}});
  layer({"kept", {"kept"}, "", {}});
  Plan plan = planned();
  for (uint32_t i : {1u, 2u}) {
    EXPECT_TRUE(plan.graph.layers[plan.layers[i].layer].has_bias);
    EXPECT_EQ(names_of(plan.layers[i]).back(), "bias");
  }
  EXPECT_EQ(names_of(plan_of(plan, "kept")), (std::vector<std::string>{"weight"}));
}

TEST_F(Planning, ValuesAreReadOnceAndHandedOver) {
  linear("a", 8, 8, "value");
  Plan plan = planned();
  const LayerPlan& layer = plan_of(plan, "a");
  ASSERT_EQ(layer.values.size(), 1u);
  EXPECT_EQ(layer.values[0].bytes->size(), 4u);
  LayerView view(plan, layer);
  EXPECT_EQ(view.get().tensors[layer.values[0].tensor]->value, layer.values[0].bytes->data());
  EXPECT_EQ(faults().read_nbytes, 4u);
}

TEST_F(Planning, VerdictMayHangOnAValue) {
  tensor("a.weight", DType::BF16, {8, 8});
  tensor("a.scale", DType::F32, {1}, std::vector<std::byte>(4));
  layer({"a", {"a"}, "value", {}});
  EXPECT_EQ(error_of(),
            "layer does not fit the method: kit.yaml:1:1: a (toy): scale is zero; did you mean "
            "on_unsupported: keep?");
}

TEST_F(Planning, AllProblemsComeAtOnce) {
  linear("a", 8, 8, "unsupported");
  linear("b", 8, 8, "double");
  linear("c", 8, 8, "unsupported");
  tensor("d.weight", DType::BF16, {8, 8});
  tensor("d.extra", DType::BF16, {8});
  layer({"d", {"d"}, "double", {}});
  std::string text = error_of();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  EXPECT_NE(text.find("kit.yaml:1:1: a (toy): found a layer, expected none"), std::string::npos)
      << text;
  EXPECT_NE(text.find("kit.yaml:3:1: c (toy)"), std::string::npos) << text;
  EXPECT_NE(text.find("\"extra\" of part 0: found neither read nor declared unused"),
            std::string::npos)
      << text;
}

TEST_F(Planning, OnUnsupportedKeepKeepsWithTheReason) {
  linear("a", 8, 8, "unsupported");
  write();
  on_unsupported_ = config::OnUnsupported::keep;
  auto plan = make_plan();
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_EQ(plan->layers[0].decision, Decision::keep);
  EXPECT_EQ(plan->layers[0].reason,
            "found a layer, expected none; toy can't do it (on_unsupported: keep)");
  // What a checkpoint declares can't be kept: its bytes are codes.
  from_declaration_ = true;
  EXPECT_FALSE(make_plan().ok());
}

TEST_F(Planning, AMethodThatLeavesEveryLayerAloneIsAnError) {
  linear("a", 8, 8, "keep");
  EXPECT_EQ(error_of(),
            "method quantizes nothing: quantization: found toy and all 1 layers kept (left alone), "
            "expected a layer that it quantizes");
}

TEST_F(Planning, MethodMayLeaveADeclaredLayerAlone) {
  from_declaration_ = true;
  linear("a", 8, 8, "keep");
  Plan plan = planned();
  EXPECT_EQ(plan.layers[0].decision, Decision::keep);
  EXPECT_EQ(plan.layers[0].reason, "left alone");
  EXPECT_EQ(plan.layers[0].method, "");
  EXPECT_EQ(plan.layers[0].stored[0].dtype, DType::BF16);
}

TEST_F(Planning, PlainFloatsNeedNoDecoding) {
  linear("a", 8, 8, "identity");
  layers_[0].wish = Decision::decode;
  Plan plan = planned();
  EXPECT_EQ(plan.layers[0].decision, Decision::keep);
  EXPECT_EQ(plan.layers[0].want, static_cast<uint32_t>(LS_WANT_DECODE));
}

TEST_F(Planning, EqualChoicesShareAConfig) {
  linear("a", 8, 8, "double", {{"granule", 2}});
  linear("b", 8, 8, "double", {{"granule", 2}});
  linear("c", 8, 8, "double", {{"granule", 3}});
  Plan plan = planned();
  EXPECT_EQ(plan.layers[0].config, plan.layers[1].config);
  EXPECT_NE(plan.layers[0].config, plan.layers[2].config);
}

TEST_F(Planning, ScheduleAndSlabsFollowTheFile) {
  linear("c", 64, 32, "");
  linear("a", 64, 32, "double");
  linear("b", 64, 32, "");
  std::swap(layers_[0], layers_[2]);  // layers in another order than the file
  Plan plan = planned();
  ASSERT_EQ(plan.schedule, (std::vector<uint32_t>{2, 1, 0}));
  EXPECT_EQ(plan.layers[2].stored[0].offset, 0u);
  EXPECT_EQ(plan.layers[1].stored[0].offset, 4096u);   // after c's 4096 bytes
  EXPECT_EQ(plan.layers[0].stored[0].offset, 12288u);  // after a's 8192
  EXPECT_EQ(plan.slabs[0].nbytes, 16384u);
  EXPECT_EQ(plan.peaks.stored, 16384u);
}

TEST_F(Planning, OtherTargetsArePlannedWithoutTheDevice) {
  linear("a", 64, 32, "");
  LoadOptions options;
  options.place = {{"transformer", {"cuda:sm80"}}};
  Plan plan = planned(options);
  EXPECT_EQ(plan.slabs[0].target.sm, 80u);
  EXPECT_EQ(plan.peaks.device, 4096u);
  EXPECT_EQ(plan.peaks.host, plan.peaks.ring + plan.peaks.pinned + plan.peaks.in_flight);
  EXPECT_GT(plan.peaks.pinned, 0u);
}

TEST_F(Planning, PlaceOfAnUnknownComponentIsAnError) {
  linear("a", 8, 8, "");
  LoadOptions options;
  options.place = {{"transfomer", {"cpu"}}};
  EXPECT_EQ(error_of(options),
            "component does not exist: load.place: found \"transfomer\", expected transformer; did "
            "you mean \"transformer\"?");
}

TEST_F(Planning, TensorsOutsideEveryLayerAreNoted) {
  linear("a", 8, 8, "");
  tensor("stray", DType::I32, {2});
  Plan plan = planned();
  EXPECT_EQ(plan.notes,
            std::vector<std::string>{"tensors that belong to no layer are not loaded: \"stray\""});
}

TEST_F(Planning, JsonHasTheDocumentedKeys) {
  linear("a", 8, 8, "amax");
  linear("b", 8, 8, "");
  Plan plan = planned();
  const Node json = plan.to_node();
  for (const char* key : {"model", "target", "components", "layers", "peaks"}) {
    ASSERT_NE(json.find(key), nullptr) << key;
  }
  const Node& component = json.find("components")->items()[0];
  EXPECT_EQ(component.find("name")->text(), "transformer");
  EXPECT_EQ(component.find("layers")->integer(), 2);
  EXPECT_EQ(component.find("bytes_before")->integer(), 256);
  EXPECT_EQ(component.find("bytes_after")->integer(), 256 + 4 + 128);
  const Node& layer = json.find("layers")->items()[0];
  for (const char* key : {"component", "layer", "kind", "role", "group", "parts", "method",
                          "decision", "rule", "reason", "sources", "stored", "kernel"}) {
    ASSERT_NE(layer.find(key), nullptr) << key;
  }
  EXPECT_EQ(layer.find("layer")->text(), "a");
  EXPECT_EQ(layer.find("decision")->text(), "quantize");
  EXPECT_EQ(layer.find("rule")->text(), "kit.yaml:1:1");
  EXPECT_EQ(layer.find("kernel")->text(), "toy_amax");
  EXPECT_EQ(layer.find("second_pass")->text(), "held");
  EXPECT_EQ(layer.find("sources")->items()[0].text(), "a.weight");
  const Node& stored = layer.find("stored")->items()[0];
  EXPECT_EQ(stored.find("name")->text(), "weight");
  EXPECT_EQ(stored.find("dtype")->text(), "F32");
  EXPECT_EQ(stored.find("shape")->to_json(), "[8,8]");
  EXPECT_EQ(stored.find("bytes")->integer(), 256);
  EXPECT_TRUE(json.find("layers")->items()[1].find("method")->is_null());
  EXPECT_GT(json.find("peaks")->find("host")->integer(), 0);
  EXPECT_EQ(json.find("peaks")->find("device")->integer(), 0);
}

TEST_F(Planning, WhyTellsTheFullStory) {
  tensor("q.weight", DType::BF16, {8, 16});
  tensor("k.weight", DType::BF16, {8, 16});
  tensor("k.spare", DType::F32, {1});
  layer({"qk", {"q", "k"}, "double", {}});
  Plan plan = planned();
  for (const char* name : {"qk", "k", "transformer:qk", "transformer.q"}) {
    auto text = why_text(plan, name);
    ASSERT_TRUE(text.ok()) << name;
    EXPECT_EQ(*text,
              "transformer: qk\n"
              "  kind       linear, (16, 16)\n"
              "  decision   toy\n"
              "  rule       kit.yaml:1:1\n"
              "  part       a rows [0, 8) from q\n"
              "  part       b rows [8, 16) from k\n"
              "  source     q.weight BF16 [8, 16]\n"
              "  source     k.weight BF16 [8, 16]\n"
              "  source     k.spare F32 [1]\n"
              "  unused     k.spare: spare\n"
              "  stored     weight F32 [16, 16], 1.0 KiB\n"
              "  kernel     toy_double\n"
              "  bytes      516 bytes before, 1.0 KiB after\n");
  }
  auto unknown = why_text(plan, "qx");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(
      unknown.error().text(),
      "layer does not exist: found \"qx\", expected the path of one of 1 layers; did you mean "
      "\"qk\"?");
}

TEST_F(Planning, TablesNameEveryLayer) {
  linear("blocks.0.a", 8, 8, "double");
  linear("blocks.0.b", 8, 8, "");
  Plan plan = planned();
  EXPECT_EQ(layers_text(plan),
            "component    layer       role    method     before      after  why\n"
            "transformer  blocks.0.a  linear  toy     128 bytes  256 bytes  kit.yaml:1:1\n"
            "transformer  blocks.0.b  linear  keep    128 bytes  128 bytes  kit.yaml:2:1\n");
  EXPECT_NE(summary_text(plan).find("sum"), std::string::npos);
}

TEST(Target, IsParsedStrictly) {
  struct Case {
    const char* text;
    bool ok;
    uint32_t sm;
  };
  for (const Case& one :
       {Case{"cpu", true, 0}, Case{"cuda", true, 0}, Case{"cuda:0", true, 0},
        Case{"cuda:sm90", true, 90}, Case{"cuda:sm", false, 0}, Case{"cuda:sm9", false, 0},
        Case{"cuda:x", false, 0}, Case{"gpu", false, 0}, Case{"", false, 0}}) {
    auto target = parse_target(one.text);
    ASSERT_EQ(target.ok(), one.ok) << one.text;
    EXPECT_EQ(target.ok() ? target->sm : 0, one.sm) << one.text;
  }
  EXPECT_EQ(parse_target("gpu").error().text(),
            "unknown target: found \"gpu\", expected cpu, cuda:N or cuda:smNN");
}

}  // namespace
}  // namespace loadstone::plan
