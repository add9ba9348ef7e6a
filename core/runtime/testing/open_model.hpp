// Tests load models as the program does: checkpoint, graph, configuration, plan, load.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "load/loaded_model.hpp"
#include "plan/plan.hpp"
#include "plugin/registry.hpp"

namespace loadstone::testing {

/// `quantization` is a JSON text for build_quant_config; "null": as the checkpoint declares.
inline Result<std::shared_ptr<const load::LoadedModel>> open_model(
    const std::string& path, const std::string& quantization = "null",
    const plan::LoadOptions& options = {}) {
  plugin::RegistryOptions places;
  const std::string plugins = LOADSTONE_BINARY_DIR "/plugins";
  if (std::filesystem::exists(plugins)) places.dirs.push_back(plugins);
  LS_TRY(auto registry, plugin::Registry::scan(places));
  LS_TRY(const auto schemas, registry.schemas());
  LS_TRY(const Node spec, parse_json(quantization, ""));
  LS_TRY(const auto config, config::build_quant_config(spec, Node(), schemas));
  LS_TRY(auto opened, formats::open_checkpoint(system_files(), path));
  auto checkpoint = std::make_shared<const formats::Checkpoint>(std::move(opened));
  LS_TRY(auto graph, graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters"));
  LS_TRY(auto plan, plan::make_plan(checkpoint, std::move(graph), config, registry, {}, options));
  LS_TRY(auto model, load::load(std::make_shared<const plan::Plan>(std::move(plan))));
  return std::shared_ptr<const load::LoadedModel>(
      std::make_shared<load::LoadedModel>(std::move(model)));
}

}  // namespace loadstone::testing
