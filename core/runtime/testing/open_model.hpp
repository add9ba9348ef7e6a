// Tests load models as an embedder does.
#pragma once

#include <filesystem>
#include <loadstone/loadstone.hpp>
#include <memory>
#include <string>

namespace loadstone::testing {

using LoadedModelPtr = std::shared_ptr<const load::LoadedModel>;

/// `config` is a whole configuration in YAML, `plugins` a folder below the build tree.
inline Result<LoadedModelPtr> open_configured(const std::string& config,
                                              const std::string& plugins = "plugins") {
  Places places{{}, LOADSTONE_SOURCE_DIR "/model_adapters"};
  const std::string folder = LOADSTONE_BINARY_DIR "/" + plugins;
  if (std::filesystem::exists(folder)) places.plugin_dirs.push_back(folder);
  LS_TRY(Loader loader, Loader::open(places));
  LS_TRY(const auto parsed, loader.parse_config(config, "test.yaml"));
  LS_TRY(auto plan, loader.plan(parsed));
  return loader.load(std::move(plan));
}

/// `quantization` is YAML or JSON for that key; "null": as the checkpoint declares.
inline Result<LoadedModelPtr> open_model(const std::string& path,
                                         const std::string& quantization = "null") {
  return open_configured("version: 1\nmodel: \"" + path + "\"\nquantization: " + quantization +
                         "\n");
}

}  // namespace loadstone::testing
