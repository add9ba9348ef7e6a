// A configuration held against what a checkpoint declares, before any tensor is known.
#pragma once

#include <string>
#include <vector>

#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "plan/known_components.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

/// What `component` gets: the user's entry for it where the checkpoint declares nothing, the
/// declaration where the user says nothing, both merged where they agree on the method; nullopt:
/// unquantized. Where a flat method goes is the families' business (`known`). The fields of a
/// declared method carry From::checkpoint; the names that it keeps are its `ignored_layers`, the
/// user's behind them.
/// Errors: invalid_config (disagreement, null for a component that declares), those of declared_by.
Result<config::Choice> resolve_component(const config::QuantConfig& user,
                                         const std::string& component,
                                         const std::vector<formats::Declaration>& declarations,
                                         const KnownComponents& known, plugin::Registry& registry);

/// The whole configuration with what `component` gets in its place.
Result<config::QuantConfig> resolve_declared(const config::QuantConfig& user,
                                             const std::string& component,
                                             const std::vector<formats::Declaration>& declarations,
                                             const KnownComponents& known,
                                             plugin::Registry& registry);

/// One layer that needs no model: a plain weight, quantized in the file where the declaration
/// covers it.
struct LayerQuestion {
  std::string path;  // with its component in front; without one the families' usual one is meant
  graph::LayerKind kind = graph::LayerKind::linear;
  std::vector<std::string> parts;  // paths of what a fused layer is made of; empty: not fused
};

struct LayerAnswer {
  std::string component, path;  // path less the component
  std::string method;           // "" when kept
  std::string reason;
  std::string matched;  // the rule or list entry that decided; "" when none did

  /// {"path", "method", "reason", "matched"} as `config check` prints it.
  Node to_node() const;
};

/// What the rules, maps, lists and declarations give a layer, by the same routing as a load's;
/// entries that name other layers count for nothing here. Whether the method can do a layer of that
/// size on some device is the plan's to say.
/// Errors: as route().
Result<LayerAnswer> resolve_layer(const config::QuantConfig& user, const LayerQuestion& question,
                                  const std::vector<formats::Declaration>& declarations,
                                  const KnownComponents& known, plugin::Registry& registry);

}  // namespace loadstone::plan
