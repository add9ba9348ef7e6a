#include "planned.hpp"

#include <set>
#include <stdexcept>

#include "../support/serialized.hpp"
#include "base/file.hpp"
#include "true_size.hpp"

namespace loadstone::testing {
namespace {

const std::string kSource = LOADSTONE_SOURCE_DIR;

plugin::Registry scan() {
  plugin::RegistryOptions options;
  options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/plugins"};
  options.trust_writable = true;
  auto scanned = plugin::Registry::scan(options);
  if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
  return std::move(*scanned);
}

Result<graph::Graph> graph_of(const formats::Checkpoint& checkpoint) {
  return graph::build_graph(checkpoint, kSource + "/model_adapters");
}

bool is_declared(const std::string& method) {
  const std::set<std::string> tools = {"modelopt", "autoround", "msmodelslim",
                                       "compressed_tensors"};
  return tools.contains(method);
}

/// Modules of the default scope, or where the family has none, what naming a component covers.
std::set<std::pair<uint32_t, std::string>> scope_of(const graph::Graph& graph) {
  std::set<std::pair<uint32_t, std::string>> defaults, named;
  for (const graph::Layer& layer : graph.layers) {
    const graph::GraphComponent& component = graph.components[layer.component];
    auto* into =
        layer.fallback.quantize ? &defaults
        : layer.fallback.named && layer.scope < 0 && component.reach == graph::Reach::declared
            ? &named
            : nullptr;
    for (const graph::Part& part : layer.parts) {
      if (into != nullptr) into->emplace(component.checkpoint_component, part.name);
    }
  }
  return defaults.empty() ? named : defaults;
}

}  // namespace

std::string ReadyConfig::method() const {
  const std::string stem = file.stem().string();
  return stem.substr(0, stem.find('-'));
}

std::vector<ReadyConfig> ready_configs() {
  std::vector<ReadyConfig> out;
  const std::vector<fs::path> headers = sorted(shared_folder() / "models/headers", ".gz");
  for (const fs::path& family : sorted(fs::path(kSource) / "configs", "")) {
    for (const fs::path& file : sorted(family, ".yaml")) {
      const size_t before = out.size();
      for (const fs::path& header : headers) {
        if (header.filename().string().starts_with(family.filename().string())) {
          out.push_back({file, header});
        }
      }
      if (out.size() == before) out.push_back({file, {}});
    }
  }
  return out;
}

Planned::Planned() : registry_(scan()) {}

std::shared_ptr<const formats::Checkpoint> Planned::checkpoint(const ReadyConfig& ready) const {
  formats::Checkpoint out = at_true_size(ready.header);
  if (is_declared(ready.method())) {
    auto graph = graph_of(out);
    if (!graph.ok()) throw std::runtime_error(graph.error().text());
    serialize(out, scope_of(*graph), ready.method());
  }
  return std::make_shared<const formats::Checkpoint>(std::move(out));
}

Result<config::QuantConfig> Planned::quantization(const ReadyConfig& ready) {
  LS_TRY(std::string text, read_text(system_files(), ready.file.string(), 1u << 20));
  LS_TRY(Node root, config::parse_yaml(text, ready.file.filename().string()));
  LS_TRY(config::Schemas schemas, registry_.schemas());
  LS_TRY(config::PipelineConfig config, config::build_pipeline_config(root, schemas));
  return config.quantization;
}

Result<plan::Plan> Planned::plan(const std::shared_ptr<const formats::Checkpoint>& checkpoint,
                                 const config::QuantConfig& quantization) {
  LS_TRY(graph::Graph graph, graph_of(*checkpoint));
  return plan::make_plan(checkpoint, std::move(graph), quantization, registry_, plan::Target{},
                         plan::LoadOptions{});
}

}  // namespace loadstone::testing
