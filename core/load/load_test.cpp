// What a load gives, and that it is what the plan said.
#include <cstring>

#include "load/loaded_model.hpp"
#include "load/testing/kit.hpp"
#include "plan/explain.hpp"

namespace loadstone::load {

namespace {

class Load : public testing::Kit {
 protected:
  /// One layer of each mode, tensors in the order of their dtype (as writers lay them out).
  void every_mode(uint64_t out = 48, uint64_t in = 40) {
    for (const char* mode :
         {"double", "amax", "resident", "value", "identity", "checked", "swapped", "packed", ""}) {
      linear(std::string("blocks.") + (*mode != 0 ? mode : "kept"), out, in, mode,
             *mode != 0 ? std::map<std::string, int64_t>{{"granule", 5}}
                        : std::map<std::string, int64_t>{});
    }
    for (const char* part : {"q", "k", "v"}) {
      tensor(std::string("attn.") + part + ".weight", DType::BF16, {out, in});
      tensor(std::string("mix.") + part + ".weight", DType::BF16, {out, in});
      tensor(std::string("fuse.") + part + ".weight", DType::BF16, {out, in});
    }
    layer({"attn.qkv", {"attn.q", "attn.k", "attn.v"}, "double", {{"granule", 7}}});
    layer({"mix.qkv", {"mix.q", "mix.k", "mix.v"}, "split", {}});
    layer({"fuse.qkv", {"fuse.q", "fuse.k", "fuse.v"}, "", {}});
    std::stable_sort(tensors_.begin(), tensors_.end(),
                     [](const auto& a, const auto& b) { return a.dtype > b.dtype; });
  }

  void expect_loads(const plan::LoadOptions& options) {
    auto model = load_all(options);
    ASSERT_TRUE(model.ok()) << model.error().text();
    expect_right(*model);
    expect_as_planned(*model);
  }
};

TEST_F(Load, GivesWhatEachMethodProduces) {
  every_mode();
  write();
  expect_loads({});
}

TEST_F(Load, WorksWithARingOfOnePiece) {
  every_mode(64, 64);
  write();
  for (unsigned threads : {1u, 2u, 8u}) {
    for (uint64_t ring : {uint64_t{4096}, uint64_t{6000}, uint64_t{1} << 20}) {
      plan::LoadOptions options;
      options.threads = threads;
      options.ring_nbytes = options.piece_nbytes = ring;
      auto plan = make_plan(options);
      ASSERT_TRUE(plan.ok());
      EXPECT_EQ(plan->flow.slots, 1u);
      expect_loads(options);
    }
  }
}

TEST_F(Load, RingIsNoLargerThanItsUse) {
  every_mode();
  linear("large", 2048, 1024, "double");
  write();
  plan::LoadOptions options;
  options.threads = 3;
  auto plan = make_plan(options);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->flow.slots, 3u);  // one a thread
  EXPECT_EQ(plan->peaks.ring, 3 * options.piece_nbytes);
  options.piece_nbytes = 4u << 20;
  plan = make_plan(options);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->flow.slots, 2u);  // all sources fill no more
}

TEST_F(Load, GranuleLargerThanASlotIsAssembled) {
  linear("big", 300, 64, "double", {{"granule", 128}});
  linear("whole", 256, 64, "amax", {{"granule", 256}});
  linear("kept", 256, 64, "");
  write();
  plan::LoadOptions options;
  options.ring_nbytes = 8192;  // 128 rows are 16384 bytes
  options.piece_nbytes = 4096;
  auto plan = make_plan(options);
  ASSERT_TRUE(plan.ok());
  EXPECT_GE(plan->flow.units.front().feed_nbytes, 128u * 128u);
  expect_loads(options);
}

TEST_F(Load, SecondPassIsHeldOrReadAgain) {
  linear("a", 256, 256, "amax");  // 128 KiB
  write();
  plan::LoadOptions options;
  options.piece_nbytes = 16384;
  auto held = load_all(options);
  ASSERT_TRUE(held.ok()) << held.error().text();
  EXPECT_FALSE(plan_of(held->plan(), "a").reread);
  EXPECT_EQ(held->report().read_nbytes, 131072u);
  options.ring_nbytes = 65536;  // an eighth of it is less than the layer
  auto again = load_all(options);
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_TRUE(plan_of(again->plan(), "a").reread);
  EXPECT_EQ(again->report().read_nbytes, 2 * 131072u);
  EXPECT_EQ(stored(*held, "a", "weight"), stored(*again, "a", "weight"));
}

TEST_F(Load, EqualLayersShareStoredTensors) {
  tensor("embed.weight", DType::BF16, {64, 32});
  layer({"embed", {"embed"}, "", {}});
  layer({"head", {"embed"}, "", {}});
  layer({"other", {"embed"}, "double", {}});
  layer({"same", {"embed"}, "double", {}});
  write();
  auto model = load_all();
  ASSERT_TRUE(model.ok()) << model.error().text();
  const auto& layers = model->plan().layers;
  EXPECT_EQ(layers[1].shared_with, 0);
  EXPECT_EQ(layers[2].shared_with, -1);
  EXPECT_EQ(layers[3].shared_with, 2);
  EXPECT_EQ(model->stored(0, 0), model->stored(1, 0));
  EXPECT_EQ(model->stored(2, 0), model->stored(3, 0));
  EXPECT_EQ(layers[1].nbytes_after, 0u);
  EXPECT_EQ(model->plan().peaks.stored, 4096u * 3);  // 4096 + 8192 bytes
  EXPECT_EQ(model->report().read_nbytes, 4096u);     // one read serves both
}

TEST_F(Load, KeptFloatsTakeTheLoadDtype) {
  linear("a", 33, 20, "");
  tensor("ids", DType::I64, {5});
  layer({"ids", {"ids"}, "", {}});
  tensor("b.weight", DType::F32, {7});
  layer({"b", {"b"}, "", {}});
  write();
  plan::LoadOptions options;
  options.dtype = DType::F32;
  options.piece_nbytes = 4096;
  auto model = load_all(options);
  ASSERT_TRUE(model.ok()) << model.error().text();
  EXPECT_EQ(stored_floats(*model, "a", "weight"), floats("a.weight"));
  EXPECT_EQ(stored(*model, "b", "weight"), find("b.weight").bytes);
  EXPECT_EQ(plan_of(model->plan(), "a").stored[0].dtype, DType::F32);
  expect_as_planned(*model);
}

TEST_F(Load, ValueOutOfRangeOfTheLoadDtypeIsRefused) {
  std::vector<std::byte> huge(8);
  float value = 1e30f;
  std::memcpy(huge.data() + 4, &value, 4);
  tensor("a.weight", DType::F32, {2}, huge);
  layer({"a", {"a"}, "", {}});
  write();
  plan::LoadOptions options;
  options.dtype = DType::F16;
  auto model = load_all(options);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().text(),
            "value out of range of the load dtype: a: found F32 values that F16 can't hold");
}

TEST_F(Load, HostAddsTheBiasOfFusedParts) {
  for (const char* part : {"q", "k"}) {
    tensor(std::string(part) + ".weight", DType::BF16, {8, 16});
    tensor(std::string(part) + ".bias", DType::BF16, {8});
  }
  layer({"qk", {"q", "k"}, "double", {}});
  write();
  auto model = load_all();
  ASSERT_TRUE(model.ok()) << model.error().text();
  const plan::LayerPlan& layer = plan_of(model->plan(), "qk");
  EXPECT_EQ(layer.method_stored, 1u);
  ASSERT_EQ(layer.stored.size(), 2u);
  EXPECT_EQ(layer.stored[1].shape, formats::Shape{16});
  std::vector<std::byte> expected = find("q.bias").bytes;
  const auto& second = find("k.bias").bytes;
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(stored(*model, "qk", "bias"), expected);
  expect_right(*model);
}

TEST_F(Load, EqualInputGivesAnEqualPlan) {
  every_mode();
  write();
  auto first = make_plan(), second = make_plan();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->to_node().to_json(2), second->to_node().to_json(2));
  EXPECT_EQ(first->schedule, second->schedule);
}

TEST_F(Load, ResultsDontDependOnThreads) {
  every_mode(96, 64);
  write();
  plan::LoadOptions one, many;
  one.threads = 1;
  many.threads = 8;
  one.piece_nbytes = many.piece_nbytes = 4096;
  auto a = load_all(one), b = load_all(many);
  ASSERT_TRUE(a.ok() && b.ok());
  for (uint32_t layer = 0; layer < a->plan().layers.size(); ++layer) {
    for (uint32_t s = 0; s < a->plan().layers[layer].stored.size(); ++s) {
      EXPECT_EQ(0, std::memcmp(a->stored(layer, s), b->stored(layer, s),
                               a->plan().layers[layer].stored[s].slab_nbytes()));
    }
  }
}

TEST_F(Load, LargePeaksArePredictedBothWays) {
  // Statistics, held layers, scratch and assembly of some size, so that the bounds can fail.
  for (int i = 0; i < 6; ++i) {
    std::string n = std::to_string(i);
    linear("amax" + n, 2048, 2048, "amax", {{"session_scratch", 12 << 20}});
    linear("wide" + n, 2048, 1024, "double", {{"granule", 2048}, {"feed_scratch", 20 << 20}});
  }
  write();
  for (unsigned threads : {1u, 4u}) {
    plan::LoadOptions options;
    options.threads = threads;
    auto model = load_all(options);
    ASSERT_TRUE(model.ok()) << model.error().text();
    expect_right(*model);
    expect_as_planned(*model);
    EXPECT_GT(model->report().predicted_peak_host, 150u << 20);
  }
}

TEST_F(Load, ReportsPhasesRatesPeaksAndMethods) {
  every_mode();
  write();
  LoadControl control;
  std::vector<ProgressEvent> events;
  control.progress = [&](const ProgressEvent& event) { events.push_back(event); };
  control.measure_ceiling = true;
  auto model = load_all({}, control);
  ASSERT_TRUE(model.ok()) << model.error().text();
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().done, events.back().total);
  Node node = model->report().to_node(model->plan());
  for (const char* key : {"seconds", "phases", "rate", "peaks", "resident", "methods"}) {
    EXPECT_NE(node.find(key), nullptr) << key;
  }
  const Node* toy = node.find("methods")->find("toy");
  ASSERT_NE(toy, nullptr);
  EXPECT_EQ(toy->find("layers")->integer(), 12);  // eight alone, one fused, three split
}

TEST_F(Load, DeviceThatCantBeLoadedIsRefused) {
  linear("a", 8, 8, "");
  write();
  plan::LoadOptions options;
  options.place = {{"transformer", {"cuda:sm90"}}};
  auto model = load_all(options);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, Code::unsupported);
  EXPECT_EQ(model.error().text(),
            "cannot load onto this device: transformer: found \"cuda:sm90\", expected cpu or "
            "cuda:N (a kind of GPU can be planned for, not loaded onto)");
}

}  // namespace
}  // namespace loadstone::load
