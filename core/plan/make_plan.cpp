#include <set>

#include "base/text.hpp"
#include "graph/fit.hpp"
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

/// Components from elsewhere that are another model than the base's by their own config.
std::vector<std::string> other_models(const formats::Checkpoint& checkpoint) {
  std::vector<std::string> out;
  for (const formats::Component& one : checkpoint.components) {
    if (!one.replaced || one.replaced->tensors.empty()) continue;
    const std::string other = graph::other_geometry(one.config, one.replaced->config);
    if (other.empty()) continue;
    out.push_back(escaped(one.source) + ": its config.json is another model's than the base's (" +
                  other + "): its tensors aren't held against the base's modules");
  }
  return out;
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

/// What mapped files mean, said where it is planned.
Status note_mapped_files(Plan& plan) {
  if (!plan.options.map_files) return {};
  if (plan.flow.gpus == 0) {
    return Error{
        Code::invalid_config, "load.io rejected", "load.io",
        "found \"map\" for a model that goes to no GPU, expected \"pread\": host memory is "
        "read into straight",
        "\"pread\""};
  }
  uint64_t nbytes = 0;
  for (const auto& file : plan.checkpoint->files) nbytes += file.identity.nbytes;
  plan.notes.push_back(
      "load.io map: GPUs copy from the files' own pages; up to " + human_nbytes(nbytes) +
      " of page cache stay pinned until the load ends, beside the host peak, and a file that is "
      "written to meanwhile gives wrong weights, noticed at the end by its time and length alone");
  return {};
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
  LS_CHECK(note_mapped_files(plan));
  plan.rules = std::move(rules);
  plan.notes.insert(plan.notes.begin(), notes.begin(), notes.end());
  for (std::string& note : other_models(*plan.checkpoint)) plan.notes.push_back(std::move(note));
  if (plan.graph.family_known && plan.graph.support.is_map()) {
    for (std::string& note : support_notes(plan)) plan.notes.push_back(std::move(note));
  }
  return plan;
}

}  // namespace loadstone::plan
