// What the commands share: flags and the configuration file become a Loader and a configuration.
#pragma once

#include <loadstone/loadstone.hpp>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "options.hpp"

namespace loadstone::cli {

/// Plugins and adapters as this program finds them: from the folder it lies in, then
/// LOADSTONE_PLUGIN_PATH, then `plugin_dirs`.
Result<Places> find_places(const std::vector<std::string>& plugin_dirs);

struct Engine {
  Places places;
  Loader loader;
  config::PipelineConfig config;  // file and flags merged; `model` is set
};

/// Errors: invalid_argument (--config with --quantization, no model, a bad --dtype or --device),
/// invalid_config.
Result<Engine> open_engine(const CommonOptions& common);
/// The same with a given value for build_quant_config (null: nothing).
Result<Engine> open_engine(const CommonOptions& common, const Node& quantization);

}  // namespace loadstone::cli
