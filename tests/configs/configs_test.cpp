// The ready files under configs/: one for every method and every family, each planned at true size,
// every weight accounted for, in under a second.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <set>

#include "graph/adapter.hpp"
#include "planned.hpp"
#include "true_size.hpp"

namespace loadstone {
namespace {

using testing::Planned;
using testing::ready_configs;
using testing::ReadyConfig;

#ifdef __SANITIZE_ADDRESS__
constexpr double kMaxSeconds = 10;
#else
constexpr double kMaxSeconds = 1;
#endif

/// Every tensor lies in one layer that stores something of it, reads it or says why not.
void expect_all_accounted(const plan::Plan& plan, const formats::Checkpoint& checkpoint) {
  std::set<std::pair<uint32_t, uint32_t>> seen;
  for (const plan::LayerPlan& layer : plan.layers) {
    if (layer.decision == plan::Decision::split) continue;  // its parts follow
    const graph::Layer& what = plan.layer_of(layer);
    const uint32_t component = plan.graph.components[what.component].checkpoint_component;
    for (const graph::LayerTensor& one : what.tensors) {
      EXPECT_TRUE(seen.emplace(component, one.tensor).second) << what.path << " twice";
    }
    if (layer.decision == plan::Decision::keep) {
      EXPECT_TRUE(!layer.reason.empty() && layer.reason != "unknown") << what.path;
    }
  }
  size_t all = 0;
  for (const auto& component : checkpoint.components) all += component.tensors.size();
  EXPECT_EQ(seen.size(), all);
}

TEST(Configs, PlanAtTrueSize) {
  if (!testing::fs::exists(testing::shared_folder() / "models/headers")) {
    GTEST_SKIP() << "no models/headers under " << testing::shared_folder()
                 << ": set LOADSTONE_SHARED";
  }
  Planned planned;
  for (const ReadyConfig& ready : ready_configs()) {
    SCOPED_TRACE(ready.file.string() + " over " + ready.header.filename().string());
    ASSERT_FALSE(ready.header.empty()) << "no header of its family";
    const auto checkpoint = planned.checkpoint(ready);
    const auto quantization = planned.quantization(ready);
    ASSERT_TRUE(quantization.ok()) << quantization.error().text();
    // Processor time: other work on the machine doesn't count.
    const std::clock_t begin = std::clock();
    const auto plan = planned.plan(checkpoint, *quantization);
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    ASSERT_TRUE(plan.ok()) << plan.error().text();
    EXPECT_LT(seconds, kMaxSeconds);
    std::map<std::string, uint64_t> quantized;  // by method
    for (const plan::LayerPlan& layer : plan->layers) {
      if (layer.decision == plan::Decision::quantize) ++quantized[layer.method];
    }
    ASSERT_EQ(quantized.size(), 1u);
    EXPECT_EQ(quantized.begin()->first, ready.method());
    expect_all_accounted(*plan, *checkpoint);
  }
}

TEST(Configs, CoverEveryMethodAndEveryFamily) {
  std::set<std::string> methods, families;
  for (const auto& family :
       testing::sorted(testing::fs::path(LOADSTONE_SOURCE_DIR) / "configs", "")) {
    for (const auto& file : testing::sorted(family, ".yaml")) {
      methods.insert(ReadyConfig{file, {}}.method());
    }
    families.insert(family.filename().string());
  }
  Planned planned;
  for (const plugin::Manifest& manifest : planned.registry().manifests()) {
    for (const std::string& method : manifest.methods) {
      EXPECT_TRUE(methods.contains(method)) << "no file for " << method;
    }
  }
  const auto adapters = graph::read_adapters(std::string(LOADSTONE_SOURCE_DIR) + "/model_adapters");
  ASSERT_TRUE(adapters.ok()) << adapters.error().text();
  for (const graph::Adapter& adapter : adapters->families) {
    if (adapter.family == "generic") continue;
    EXPECT_TRUE(families.contains(adapter.family)) << "no folder for " << adapter.family;
  }
}

}  // namespace
}  // namespace loadstone
