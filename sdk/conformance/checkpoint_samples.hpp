// Layers of a real checkpoint for methods whose formats the kit can't make itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "conformance/layer_case.hpp"
#include "plugin/registry.hpp"

namespace loadstone::conformance {

struct CheckpointSample {
  LayerCase layer;  // without truth
  std::shared_ptr<const plugin::MethodConfig> config;
};

/// A few small layers of the checkpoint, of different make, that the plan gives to `method`: what
/// its declarations say, adapters as in `adapters_dir`, plugins as in `plugin_dir`.
/// Errors: as planning.
Result<std::vector<CheckpointSample>> samples_of(const std::string& checkpoint,
                                                 const std::string& plugin_dir,
                                                 const std::string& adapters_dir,
                                                 std::string_view method);

}  // namespace loadstone::conformance
