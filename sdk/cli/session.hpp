// What the commands share: flags and the configuration file become an engine (plugins, schemas,
// target), a model's path becomes a checkpoint and its graph, both together a plan.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "options.hpp"
#include "plan/plan.hpp"
#include "plugin/registry.hpp"

namespace loadstone::cli {

/// Where this program lies: plugins and adapters are found from here.
struct Places {
  std::string program_dir;
  std::string adapters_dir;
};
Result<Places> find_places();

struct Engine {
  Places places;
  plugin::Registry registry;
  config::PipelineConfig pipeline;  // file and flags merged; `model` is set
  plan::Target target;
  plan::LoadOptions options;
};

/// Plugins alone, for `plugins list`.
Result<plugin::Registry> open_registry(const Places& places,
                                       const std::vector<std::string>& plugin_dirs);
/// Reads plugins and configuration. Errors: invalid_argument (--config with --quantization, no
/// model), invalid_config.
Result<Engine> open_engine(const CommonOptions& common);
/// The same with a given value for build_quant_config (null: nothing).
Result<Engine> open_engine(const CommonOptions& common, const Node& quantization);
Result<formats::Checkpoint> open_model(const Engine& engine);
Result<graph::Graph> open_graph(const Engine& engine, const formats::Checkpoint& checkpoint);
Result<plan::Plan> plan_model(Engine& engine);

}  // namespace loadstone::cli
