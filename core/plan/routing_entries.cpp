#include "plan/routing_entries.hpp"

#include <algorithm>
#include <optional>
#include <tuple>

#include "base/text.hpp"
#include "config/pattern.hpp"

namespace loadstone::plan {
namespace {

constexpr std::string_view kDefaultKey = "default";

bool is_default(const std::string& key) { return key == kDefaultKey; }

/// How deep and how long a pattern is: the larger wins.
std::pair<size_t, size_t> weight_of(const std::string& pattern) {
  return {static_cast<size_t>(std::count(pattern.begin(), pattern.end(), '.')), pattern.size()};
}

class Resolver {
 public:
  Resolver(const graph::Graph& graph, const config::QuantConfig& quantization,
           std::vector<std::string>& notes, config::Problems& problems)
      : graph_(graph), quantization_(quantization), notes_(notes), problems_(problems) {
    for (const auto& [key, choice] : quantization.components) {
      choices_.push_back(choice ? std::make_shared<const config::MethodChoice>(*choice) : nullptr);
    }
    used_.assign(quantization.components.size(), false);
    matched_ = used_;
  }

  std::vector<ComponentEntries> map() {
    std::vector<ComponentEntries> out(graph_.components.size());
    for (size_t i = 0; i < out.size(); ++i) {
      const graph::GraphComponent& component = graph_.components[i];
      std::vector<std::string> names = component.aliases;
      names.insert(names.begin(), component.name);
      out[i].whole = entry_for(names, true);
      for (const graph::Scope& scope : component.scopes) {
        out[i].scopes.push_back(
            entry_for({scope.name, component.name + "." + scope.name, scope_path(scope)}, false));
      }
    }
    for (size_t k = 0; k < used_.size(); ++k) {
      const std::string& key = key_of(k);
      if (!used_[k] && !is_default(key)) unmatched(k, key);
    }
    return out;
  }

 private:
  static std::string scope_path(const graph::Scope& scope) {
    return scope.prefix.substr(0, scope.prefix.size() - 1);
  }

  Entry entry_for(const std::vector<std::string>& names, bool whole) {
    std::optional<size_t> best, fallback;
    bool best_exact = false;
    for (size_t k = 0; k < used_.size(); ++k) {
      const std::string& key = key_of(k);
      if (std::find(names.begin(), names.end(), key) != names.end()) {
        matched_[k] = true;
        if (!best_exact) best = k;
        best_exact = true;
      } else if (is_default(key)) {
        fallback = k;
      } else if (whole && matches_any(key, names)) {
        matched_[k] = true;
        if (!best_exact && (!best || weight_of(key) > weight_of(key_of(*best)))) best = k;
      }
    }
    const bool named = best.has_value();
    if (!best && whole) best = fallback;
    Entry out;
    if (!best) return out;
    used_[*best] = true;
    out.given = true;
    out.choice = choices_[*best];
    out.named = named;
    out.scope = !whole;
    out.key = key_of(*best);
    out.mark = quantization_.component_marks[*best];
    return out;
  }

  const std::string& key_of(size_t k) const { return quantization_.components[k].first; }

  static bool matches_any(const std::string& glob, const std::vector<std::string>& names) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return config::glob_matches(glob, name); });
  }

  void unmatched(size_t index, const std::string& key) {
    const Mark& mark = quantization_.component_marks[index];
    if (matched_[index]) {
      if (quantization_.allow_unmatched) return;
      problems_.add("component entry decides nothing", mark,
                    "found " + quoted(key) + ", expected a component that no closer entry names");
      return;
    }
    const auto& absent = graph_.absent_components;
    if (std::find(absent.begin(), absent.end(), key) != absent.end()) {
      if (!choices_[index]) {
        notes_.push_back("component " + quoted(key) + " is not in this checkpoint");
        return;
      }
      problems_.add("component not in this checkpoint", mark,
                    "found " + choices_[index]->method + " for " + quoted(key) + ", expected " +
                        join(component_names()));
      return;
    }
    if (quantization_.allow_unmatched) return;
    std::vector<std::string> names = component_names();
    names.insert(names.end(), absent.begin(), absent.end());
    std::string hint = nearest(key, names);
    problems_.add(
        config::is_pattern(key) ? "component pattern matches nothing" : "unknown component", mark,
        "found " + quoted(key) + ", expected " + join(names), hint.empty() ? "" : quoted(hint));
  }

  std::vector<std::string> component_names() const {
    std::vector<std::string> out;
    for (const graph::GraphComponent& component : graph_.components) {
      out.push_back(component.name);
      for (const graph::Scope& scope : component.scopes) out.push_back(scope.name);
    }
    return out;
  }

  const graph::Graph& graph_;
  const config::QuantConfig& quantization_;
  std::vector<std::string>& notes_;
  config::Problems& problems_;
  std::vector<std::shared_ptr<const config::MethodChoice>> choices_;
  std::vector<bool> matched_, used_;  // by key: names a component; decides one
};

std::vector<std::string> with_reach(const graph::Graph& graph, graph::Reach reach) {
  std::vector<std::string> out;
  for (const graph::GraphComponent& component : graph.components) {
    if (component.reach == reach) out.push_back(quoted(component.name));
  }
  return out;
}

/// A flat method goes to the family's default scope, and to components that declare quantization
/// where it has none (thinkers).
std::vector<ComponentEntries> resolve_flat(const graph::Graph& graph,
                                           const config::MethodChoice& flat,
                                           const std::vector<bool>& declared,
                                           config::Problems& problems) {
  std::vector<ComponentEntries> out(graph.components.size());
  auto choice = std::make_shared<const config::MethodChoice>(flat);
  bool any = false;
  for (size_t i = 0; i < out.size(); ++i) {
    const graph::GraphComponent& component = graph.components[i];
    out[i].scopes.resize(component.scopes.size());
    const bool here = component.reach == graph::Reach::flat || declared[i];
    if (here) out[i].whole = Entry{true, choice, false, false, "", flat.mark};
    any = any || here;
  }
  const auto stages = with_reach(graph, graph::Reach::stage);
  if (!stages.empty()) {
    problems.add("flat method on a model of several stages", flat.mark,
                 "found " + flat.method + " without a component, expected a map that names " +
                     join(stages, " and "));
  } else if (!any) {
    const auto thinkers = with_reach(graph, graph::Reach::declared);
    std::string expected = "a component map or rules that name layers";
    if (!thinkers.empty()) {
      expected = "a checkpoint that declares it, or a map that names " + join(thinkers);
    }
    problems.add("flat method applies to nothing", flat.mark,
                 "found " + flat.method + " for a model of family " + quoted(graph.family) +
                     " without a default scope here, expected " + expected);
  }
  return out;
}

}  // namespace

std::vector<ComponentEntries> resolve_entries(const graph::Graph& graph,
                                              const config::QuantConfig& quantization,
                                              const std::vector<bool>& declared,
                                              std::vector<std::string>& notes,
                                              config::Problems& problems) {
  if (quantization.is_component_map) {
    return Resolver(graph, quantization, notes, problems).map();
  }
  if (quantization.flat) return resolve_flat(graph, *quantization.flat, declared, problems);
  std::vector<ComponentEntries> out(graph.components.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].scopes.resize(graph.components[i].scopes.size());
    if (quantization.explicitly_none) out[i].whole = Entry{true, nullptr, false, false, "none", {}};
  }
  return out;
}

std::vector<std::string> entry_listing(const config::QuantConfig& quantization) {
  std::vector<size_t> order;
  for (size_t i = 0; i < quantization.components.size(); ++i) order.push_back(i);
  // Names, then patterns, the weightiest first, then the default.
  const auto rank = [&](size_t i) {
    const std::string& key = quantization.components[i].first;
    const bool pattern = config::is_pattern(key);
    return std::tuple(!is_default(key), !pattern, pattern ? weight_of(key) : weight_of(""));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rank(a) > rank(b); });
  std::vector<std::string> out;
  for (size_t i : order) {
    const auto& [key, choice] = quantization.components[i];
    std::string where = quantization.component_marks[i].text();
    out.push_back((where.empty() ? "" : where + ": ") + "component " + quoted(key) + " → " +
                  (choice ? choice->method : "keep"));
  }
  if (quantization.flat) {
    std::string where = quantization.flat->mark.text();
    out.push_back((where.empty() ? "" : where + ": ") + "default scope → " +
                  quantization.flat->method);
  }
  if (quantization.explicitly_none) out.push_back("none: every layer → keep");
  return out;
}

}  // namespace loadstone::plan
