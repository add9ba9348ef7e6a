// The kit over layers of real checkpoints: every method that a checkpoint's plan uses. Enumerates
// what lies under LOADSTONE_SHARED/checkpoints.
#include <gmock/gmock.h>

#include <filesystem>
#include <loadstone/loadstone.hpp>
#include <map>

#include "base/testing/shared.hpp"
#include "conformance/conformance.hpp"

namespace loadstone::conformance {
namespace {

namespace fs = std::filesystem;

/// Method → library of the plugin that offers it, for the methods that the plan quantizes with.
std::map<std::string, std::string> methods_of(Loader& loader, const std::string& checkpoint) {
  std::map<std::string, std::string> out;
  const auto config = loader.make_config(checkpoint);
  if (!config.ok()) return out;
  const auto plan = loader.plan(*config);
  if (!plan.ok()) return out;
  for (const plan::LayerPlan& layer : (*plan)->layers) {
    if (layer.decision != plan::Decision::quantize) continue;
    for (const plugin::Manifest& manifest : loader.registry().manifests()) {
      if (manifest.name == layer.config->method().plugin()) out[layer.method] = manifest.library;
    }
  }
  return out;
}

TEST(KitOnCheckpoints, EveryMethodKeepsTheRulesOnRealLayers) {
  const std::string folder = (testing::shared_folder() / "checkpoints").string();
  if (!fs::is_directory(folder)) GTEST_SKIP() << "no checkpoints at " << folder;
  const std::string adapters = std::string(LOADSTONE_SOURCE_DIR) + "/model_adapters";
  auto loader = Loader::open({{std::string(LOADSTONE_BINARY_DIR) + "/plugins"}, adapters});
  ASSERT_TRUE(loader.ok()) << loader.error().text();
  size_t checked = 0, without = 0;
  for (const auto& tool : fs::directory_iterator(folder)) {
    if (!tool.is_directory()) continue;
    for (const auto& checkpoint : fs::directory_iterator(tool.path())) {
      const auto methods = methods_of(*loader, checkpoint.path().string());
      without += methods.empty() ? 1 : 0;
      for (const auto& [method, library] : methods) {
        Options options;
        options.seconds = 1;
        options.method = method;
        options.checkpoint = checkpoint.path().string();
        options.adapters = adapters;
        options.points = {"bytes",      "split",  "threads", "cancel",
                          "dequantize", "decode", "apply",   "struct_sizes"};
        const auto report = check(library, options);
        ASSERT_TRUE(report.ok()) << report.error().text();
        EXPECT_TRUE(report->passed()) << checkpoint.path() << "\n" << report->text();
        ++checked;
      }
    }
  }
  std::printf("checked %zu methods on checkpoints, %zu checkpoints use none of these plugins\n",
              checked, without);
  EXPECT_GT(checked, 0u);
}

}  // namespace
}  // namespace loadstone::conformance
