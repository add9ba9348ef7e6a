// Routing: what each layer of a graph gets, and which statement said so.
//
// Precedence, first that speaks: a rule naming one exact path > rules in order > the component's
// entry of a map (exact name, alias or scope > shell pattern: deepest, then longest > default), or
// the flat method in its default scope > the checkpoint's declaration > the family's default.
// A serialized layer is never quantized by another method than its own: an entry that asks for one
// is an error, one that keeps it decodes it. The tensors decide: declared but stored plain is kept.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "plan/plan.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

/// The decision for one layer, before its method was asked.
struct Routed {
  Decision wish = Decision::keep;                      // keep, quantize or decode
  std::shared_ptr<const config::MethodChoice> choice;  // null for keep
  bool from_declaration = false;
  std::string rule;  // "pipeline.yaml:7:5", "config.json: quantization_config" or a default's name
  std::string reason;                 // why, in words ("modulation kept: precision")
  std::vector<std::string> overrode;  // statements that matched and lost, strongest first
  config::OnUnsupported on_unsupported = config::OnUnsupported::error;
  std::string ignored;  // the ignore-list entry that kept the layer; "" otherwise
  // Of a fused layer whose parts are declared differently, in their order: each is a layer by
  // itself. `choice` is then the first part's.
  std::vector<Routed> parts;
};

/// One Routed for every layer of `graph`, in its order. `compiled_rules` receives the ordered list
/// that `plan --rules` prints, `notes` what a user should know (both may be null).
/// Errors: invalid_config (all problems at once: unmatched or shadowed statements, unknown
/// components, disagreement with the checkpoint, partly named fused layers), invalid_checkpoint (a
/// declaration with nothing behind it), unsupported (a declared format that no plugin serves).
Result<std::vector<Routed>> route(const graph::Graph& graph, const formats::Checkpoint& checkpoint,
                                  const config::QuantConfig& quantization,
                                  plugin::Registry& registry,
                                  std::vector<std::string>* compiled_rules,
                                  std::vector<std::string>* notes);

}  // namespace loadstone::plan
