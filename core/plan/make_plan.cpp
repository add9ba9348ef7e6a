#include <set>

#include "base/text.hpp"
#include "graph/original_names.hpp"
#include "plan/family_order.hpp"
#include "plan/planner.hpp"

namespace loadstone::plan {
namespace {

/// GGUF files of image models have the original names: a component of a model can only be one where
/// its family knows them. A file by itself goes by its own names.
Status check_name_adapters(const formats::Checkpoint& checkpoint, const graph::Graph& graph) {
  for (const graph::GraphComponent& component : graph.components) {
    const auto& stored = checkpoint.components[component.checkpoint_component];
    if (!stored.gguf || stored.name.empty() || !component.gguf_architecture.empty()) continue;
    return graph::no_name_adapter(graph, component, escaped(stored.source));
  }
  return {};
}

/// What is known of the methods that the plan uses on this family, where that isn't the best.
std::vector<std::string> support_notes(const Plan& plan) {
  std::set<std::string> methods;
  for (const LayerPlan& layer : plan.layers) {
    if (layer.decision == Decision::quantize) methods.insert(layer.method);
  }
  std::vector<std::string> out;
  for (const std::string& method : methods) {
    const Node* known = plan.graph.support.find(method);
    const std::string level = known != nullptr && known->is_text() ? known->text() : "";
    if (level == "validated" || level == "ci" || level == "checkpoint") continue;
    out.push_back(method + (level == "no" ? " is unsupported for " : " is not validated for ") +
                  plan.graph.variant + (level.empty() ? "" : ": support level " + quoted(level)));
  }
  return out;
}

}  // namespace

Result<Plan> make_plan(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
                       const config::QuantConfig& quantization, plugin::Registry& registry,
                       const Target& target, const LoadOptions& options) {
  if (!options.as_stored) {
    LS_CHECK(check_name_adapters(*checkpoint, graph));
    LS_TRY(checkpoint, in_family_order(std::move(checkpoint), graph));
  }
  std::vector<std::string> rules, notes;
  LS_TRY(auto routed, route(graph, *checkpoint, quantization, registry, &rules, &notes));
  LS_TRY(Plan plan, plan_routed(std::move(checkpoint), std::move(graph), quantization,
                                std::move(routed), registry, target, options));
  plan.rules = std::move(rules);
  plan.notes.insert(plan.notes.begin(), notes.begin(), notes.end());
  if (plan.graph.family_known && plan.graph.support.is_map()) {
    for (std::string& note : support_notes(plan)) plan.notes.push_back(std::move(note));
  }
  return plan;
}

}  // namespace loadstone::plan
