#include "plan/routing_resolve.hpp"

#include <algorithm>

#include "config/pattern.hpp"
#include "plan/routing_declared.hpp"
#include "plan/routing_entries.hpp"

namespace loadstone::plan {
namespace {

/// A model of the components that a configuration names, `component` first.
graph::Graph imagined(const config::QuantConfig& user, const std::string& component) {
  graph::Graph graph;
  std::vector<std::string> names = {component};
  for (const auto& [key, choice] : user.components) {
    if (key != "default" && key != component && !config::is_pattern(key)) names.push_back(key);
  }
  for (const std::string& name : names) {
    graph::GraphComponent one;
    one.name = name;
    one.reach = name.starts_with("transformer") ? graph::Reach::flat : graph::Reach::map;
    graph.components.push_back(std::move(one));
  }
  return graph;
}

}  // namespace

Result<config::Choice> resolve_component(const config::QuantConfig& user,
                                         const std::string& component,
                                         const std::vector<formats::Declaration>& declarations,
                                         plugin::Registry& registry) {
  const graph::Graph graph = imagined(user, component);
  std::vector<std::string> notes;
  LS_TRY(const auto declared, declared_by(graph.components[0], declarations, registry, notes));
  const bool flat_elsewhere =
      user.flat && !declared && graph.components[0].reach != graph::Reach::flat;
  if (flat_elsewhere) return config::Choice();
  std::vector<bool> declares(graph.components.size(), false);
  declares[0] = declared.has_value();
  config::Problems problems;
  const Entry entry = resolve_entries(graph, user, declares, notes, problems)[0].whole;
  if (declared) check_agreement(component, *declared, entry, problems);
  if (!problems.empty()) return problems.take();
  if (!declared) return entry.choice ? config::Choice(*entry.choice) : config::Choice();
  const config::MethodChoice own = declared->normalized();
  if (!entry.choice) return config::Choice(own);
  const auto merged =
      merge_fields(own, declared->schema(), declared->where(), *entry.choice, problems);
  if (!problems.empty()) return problems.take();
  return config::Choice(*merged);
}

Result<config::QuantConfig> resolve_declared(const config::QuantConfig& user,
                                             const std::string& component,
                                             const std::vector<formats::Declaration>& declarations,
                                             plugin::Registry& registry) {
  if (declarations.empty()) return user;
  LS_TRY(config::Choice choice, resolve_component(user, component, declarations, registry));
  config::QuantConfig out = user;
  out.configured = true;
  if (!user.is_component_map) {
    out.flat = std::move(choice);
    return out;
  }
  const auto at = std::find_if(out.components.begin(), out.components.end(),
                               [&](const auto& one) { return one.first == component; });
  if (at != out.components.end()) {
    at->second = std::move(choice);
  } else {
    out.component_marks.push_back(choice->mark);
    out.components.emplace_back(component, std::move(choice));
  }
  return out;
}

}  // namespace loadstone::plan
