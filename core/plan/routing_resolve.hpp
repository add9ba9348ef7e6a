// A configuration held against what a checkpoint declares, before any tensor is known.
#pragma once

#include <string>
#include <vector>

#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

/// What `component` gets: the user's entry for it where the checkpoint declares nothing, the
/// declaration where the user says nothing, both merged where they agree on the method; nullopt:
/// unquantized. A flat method reaches components whose name begins with "transformer", the default
/// scope of every family. The fields of a declared method carry From::checkpoint; the names that it
/// keeps are its `ignored_layers`.
/// Errors: invalid_config (disagreement, null for a component that declares), those of declared_by.
Result<config::Choice> resolve_component(const config::QuantConfig& user,
                                         const std::string& component,
                                         const std::vector<formats::Declaration>& declarations,
                                         plugin::Registry& registry);

/// The whole configuration with what `component` gets in its place.
Result<config::QuantConfig> resolve_declared(const config::QuantConfig& user,
                                             const std::string& component,
                                             const std::vector<formats::Declaration>& declarations,
                                             plugin::Registry& registry);

}  // namespace loadstone::plan
