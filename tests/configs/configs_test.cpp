// Every file under configs/<family> is planned at true size, from the tensor lists under
// LOADSTONE_SHARED/models/headers of that family.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "base/file.hpp"
#include "plan/plan.hpp"
#include "true_size.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;
using testing::at_true_size;
using testing::shared_dir;
using testing::sorted;

plugin::Registry& registry() {
  static plugin::Registry made = [] {
    plugin::RegistryOptions options;
    options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/plugins"};
    options.trust_writable = true;
    auto scanned = plugin::Registry::scan(options);
    if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
    return std::move(*scanned);
  }();
  return made;
}

Result<plan::Plan> plan_of(const fs::path& file, formats::Checkpoint checkpoint) {
  LS_TRY(std::string text, read_text(system_files(), file.string(), 1u << 20));
  LS_TRY(Node root, config::parse_yaml(text, file.filename().string()));
  LS_TRY(config::Schemas schemas, registry().schemas());
  LS_TRY(config::PipelineConfig config, config::build_pipeline_config(root, schemas));
  auto shared = std::make_shared<const formats::Checkpoint>(std::move(checkpoint));
  LS_TRY(graph::Graph graph,
         graph::build_graph(*shared, std::string(LOADSTONE_SOURCE_DIR) + "/model_adapters"));
  return plan::make_plan(shared, std::move(graph), config.quantization, registry(), plan::Target{},
                         plan::LoadOptions{});
}

TEST(Configs, PlanAtTrueSize) {
  const fs::path headers = shared_dir() / "models/headers";
  if (!fs::exists(headers)) GTEST_SKIP() << "no " << headers << ": set LOADSTONE_SHARED";
  for (const fs::path& family : sorted(fs::path(LOADSTONE_SOURCE_DIR) / "configs", "")) {
    for (const fs::path& file : sorted(family, ".yaml")) {
      SCOPED_TRACE(file.string());
      size_t planned = 0;
      for (const fs::path& header : sorted(headers, ".gz")) {
        const std::string name = header.filename().string();
        if (name.compare(0, family.filename().string().size(), family.filename().string()) != 0) {
          continue;
        }
        SCOPED_TRACE(name);
        formats::Checkpoint checkpoint = at_true_size(header);
        const auto begin = std::chrono::steady_clock::now();
        auto plan = plan_of(file, std::move(checkpoint));
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        ASSERT_TRUE(plan.ok()) << plan.error().text();
        RecordProperty(name, std::to_string(seconds.count()));
        uint64_t quantized = 0;
        for (const auto& layer : plan->layers) {
          if (layer.decision == plan::Decision::quantize) ++quantized;
        }
        EXPECT_GT(quantized, 0u);
        ++planned;
      }
      EXPECT_GT(planned, 0u);
    }
  }
}

}  // namespace
}  // namespace loadstone
