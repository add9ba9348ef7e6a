// Every file under configs/<family> is planned at true size, from the tensor lists under
// LOADSTONE_SHARED/models/headers of that family.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/file.hpp"
#include "plan/plan.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;

fs::path shared_dir() {
  const char* given = std::getenv("LOADSTONE_SHARED");
  return given ? given : std::string(LOADSTONE_SOURCE_DIR) + "/../shared";
}

std::vector<fs::path> sorted(const fs::path& dir, const std::string& extension) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (extension.empty() ? entry.is_directory() : entry.path().extension() == extension) {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string gunzip(const fs::path& path) {
  std::string out;
  FILE* pipe = popen(("gzip -dc '" + path.string() + "'").c_str(), "r");
  if (!pipe) return out;
  char buffer[65536];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, got);
  pclose(pipe);
  return out;
}

/// The tiny folder of a header: its name begins the header's, the longest one.
fs::path tiny_folder(const std::string& header) {
  fs::path best;
  for (const fs::path& folder : sorted(shared_dir() / "models/families", "")) {
    const std::string name = folder.filename().string();
    const bool fits = header.compare(0, name.size(), name) == 0;
    if (fits && name.size() > best.filename().string().size()) best = folder;
  }
  return best;
}

/// A tiny folder's checkpoint with a header's tensors; nothing of it can be read.
formats::Checkpoint at_true_size(const fs::path& header) {
  const std::string name = header.stem().stem().string();
  auto checkpoint = formats::open_checkpoint(system_files(), tiny_folder(name).string());
  if (!checkpoint.ok()) throw std::runtime_error(checkpoint.error().text());
  auto rows = parse_json(gunzip(header), name);
  if (!rows.ok()) throw std::runtime_error(rows.error().text());
  for (auto& component : checkpoint->components) component.tensors.clear();
  uint64_t offset = 4096;
  for (const Node& row : rows->items()) {
    const auto& cell = row.items();
    formats::TensorEntry tensor;
    tensor.name = cell[1].text();
    tensor.dtype = *dtype_from_safetensors(cell[2].text());
    tensor.nbytes = layout_of(tensor.dtype)->block_nbytes;
    for (const Node& dim : cell[3].items()) {
      tensor.shape.push_back(static_cast<uint64_t>(dim.integer()));
      tensor.nbytes *= tensor.shape.back();
    }
    tensor.offset = offset;
    offset += tensor.nbytes;
    formats::Component* owner = nullptr;
    for (auto& component : checkpoint->components) {
      if (component.name == cell[0].text() || (!owner && component.name.empty())) {
        owner = &component;
      }
    }
    if (!owner) throw std::runtime_error("no component " + cell[0].text());
    owner->tensors.push_back(std::move(tensor));
  }
  return std::move(*checkpoint);
}

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
