#include "plan/family_order.hpp"
#include "plan/planner.hpp"

namespace loadstone::plan {

Result<Plan> make_plan(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
                       const config::QuantConfig& quantization, plugin::Registry& registry,
                       const Target& target, const LoadOptions& options) {
  if (!options.as_stored) {
    LS_TRY(checkpoint, in_family_order(std::move(checkpoint), graph));
  }
  std::vector<std::string> rules, notes;
  LS_TRY(auto routed, route(graph, *checkpoint, quantization, registry, &rules, &notes));
  LS_TRY(Plan plan, plan_routed(std::move(checkpoint), std::move(graph), quantization,
                                std::move(routed), registry, target, options));
  plan.rules = std::move(rules);
  plan.notes.insert(plan.notes.begin(), notes.begin(), notes.end());
  return plan;
}

}  // namespace loadstone::plan
