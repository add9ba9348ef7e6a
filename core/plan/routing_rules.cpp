#include "plan/routing_rules.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace loadstone::plan {
namespace {

std::string conditions_of(const config::Rule& rule) {
  std::vector<std::string> out;
  if (rule.component) out.push_back("component " + quoted(*rule.component));
  if (rule.layer) out.push_back("layer " + quoted(*rule.layer));
  if (rule.role) out.push_back("role " + quoted(*rule.role));
  if (rule.kind) out.push_back("kind " + *rule.kind);
  if (rule.dtype) out.push_back("dtype " + *rule.dtype);
  if (rule.min_elements) out.push_back("min_elements " + std::to_string(*rule.min_elements));
  if (rule.max_elements) out.push_back("max_elements " + std::to_string(*rule.max_elements));
  return out.empty() ? "every layer" : join(out, ", ");
}

bool same_use(const config::Choice& a, const config::Choice& b) {
  if (!a || !b) return !a && !b;
  return a->method == b->method && config::same_fields(*a, *b);
}

bool contains(const std::vector<uint32_t>& sorted, uint32_t id) {
  return std::binary_search(sorted.begin(), sorted.end(), id);
}

}  // namespace

std::string use_of(const config::Choice& use) { return use ? use->method : "keep"; }

Result<CompiledRules> CompiledRules::make(const std::vector<config::Rule>& rules) {
  CompiledRules out;
  out.rules_ = rules;
  out.exact_.assign(rules.size(), false);
  out.matched_ = out.decided_ = out.outvoted_ = out.reported_ = out.exact_;
  config::Problems problems;
  auto add = [&](config::PatternSet& set, const std::string& text, uint32_t id) {
    Status status = set.add_layer(text, id);
    if (!status.ok()) problems.add(std::move(status).error().at(rules[id].mark.text()));
  };
  for (uint32_t i = 0; i < rules.size(); ++i) {
    const config::Rule& rule = rules[i];
    out.exact_[i] = rule.layer && !config::is_pattern(*rule.layer);
    if (rule.layer) add(out.layers_, *rule.layer, i);
    if (!rule.layer) out.without_layer_.push_back(i);
    if (rule.role) add(out.roles_, *rule.role, i);
    if (rule.component) add(out.components_, *rule.component, i);
  }
  for (config::PatternSet* set : {&out.layers_, &out.roles_, &out.components_}) {
    Status status = set->compile();
    if (!status.ok()) problems.add(std::move(status).error());
  }
  if (!problems.empty()) return problems.take();
  return out;
}

const std::vector<uint32_t>& CompiledRules::by_role(const graph::Layer& layer) {
  std::string key = layer.role;
  for (const graph::Part& part : layer.parts) key += "\n" + part.role;
  auto [found, fresh] = role_hits_.emplace(key, std::vector<uint32_t>());
  if (!fresh) return found->second;
  roles_.match("", layer.role, &found->second);
  // A fused layer has its parts' roles too, where a rule names all of them.
  NameHits hits{.own = std::move(found->second), .parts = {}};
  for (const graph::Part& part : layer.parts) {
    roles_.match("", part.role, &hits.parts.emplace_back());
  }
  found->second = hits.whole();
  return found->second;
}

const std::vector<uint32_t>& CompiledRules::by_component(const graph::GraphComponent& component) {
  auto [found, fresh] = component_hits_.emplace(component.name, std::vector<uint32_t>());
  if (!fresh) return found->second;
  std::vector<uint32_t> one;
  std::vector<std::string> names = component.aliases;
  names.push_back(component.name);
  for (const std::string& name : names) {
    components_.match("", name, &one);
    found->second.insert(found->second.end(), one.begin(), one.end());
  }
  std::sort(found->second.begin(), found->second.end());
  return found->second;
}

bool CompiledRules::holds(const config::Rule& rule, const graph::Layer& layer,
                          const formats::Component& stored) const {
  if (rule.kind && *rule.kind != to_string(layer.kind)) return false;
  if (rule.dtype) {
    bool any = false;
    for (const graph::LayerTensor& one : layer.tensors) {
      const bool weight = one.suffix != "bias";
      any = any || (weight && name_of(stored.tensors[one.tensor].dtype) == *rule.dtype);
    }
    if (!any) return false;
  }
  if (rule.min_elements || rule.max_elements) {
    uint64_t elements = layer.out * layer.in * layer.groups;
    if (elements == 0) {
      for (const graph::LayerTensor& one : layer.tensors) {
        uint64_t numel = 1;
        for (uint64_t dim : stored.tensors[one.tensor].shape) numel *= dim;
        elements = std::max(elements, numel);
      }
    }
    if (rule.min_elements && elements < *rule.min_elements) return false;
    if (rule.max_elements && elements > *rule.max_elements) return false;
  }
  return true;
}

void CompiledRules::disagree(uint32_t first, uint32_t second, config::Problems& problems) {
  if (same_use(rules_[first].use, rules_[second].use)) return;
  reported_[second] = true;
  problems.add("rules disagree", rules_[second].mark,
               "found " + use_of(rules_[second].use) + " for layer " +
                   quoted(*rules_[second].layer) + ", expected " + use_of(rules_[first].use) +
                   " as at " + rules_[first].mark.text());
}

std::vector<uint32_t> CompiledRules::matching(const graph::Layer& layer,
                                              const graph::GraphComponent& component,
                                              const formats::Component& stored,
                                              const LayerNames& names, config::Problems& problems) {
  std::vector<uint32_t> exact, ordered;
  const std::vector<uint32_t>& roles = by_role(layer);
  const std::vector<uint32_t>& components = by_component(component);
  auto take = [&](uint32_t id) {
    const config::Rule& rule = rules_[id];
    if (rule.role && !contains(roles, id)) return false;
    if (rule.component && !contains(components, id)) return false;
    if (!holds(rule, layer, stored)) return false;
    matched_[id] = true;
    return true;
  };
  const NameHits hits = match_names(layers_, names);
  for (uint32_t id : hits.whole()) {
    if (take(id)) (exact_[id] ? exact : ordered).push_back(id);
  }
  for (uint32_t id : without_layer_) {
    if (take(id)) ordered.push_back(id);
  }
  for (uint32_t id : hits.partial()) {
    if (!take(id) || reported_[id]) continue;
    reported_[id] = true;
    std::vector<bool> named;
    for (const auto& part : hits.parts) named.push_back(contains(part, id));
    problems.add("rule names part of a fused layer", rules_[id].mark,
                 "found " + quoted(*rules_[id].layer) + " for part of " + quoted(layer.path) +
                     ", expected it to name " + missing_parts(names, named) + " too");
  }
  for (size_t i = 1; i < exact.size(); ++i) disagree(exact[0], exact[i], problems);
  std::sort(ordered.begin(), ordered.end());
  exact.insert(exact.end(), ordered.begin(), ordered.end());
  return exact;
}

void CompiledRules::check(bool allow_unmatched, const NearestName& names,
                          config::Problems& problems) const {
  for (uint32_t i = 0; i < rules_.size(); ++i) {
    if (decided_[i] || reported_[i] || allow_unmatched || rules_[i].allow_unmatched) continue;
    if (matched_[i] && !outvoted_[i]) {
      problems.add("rule decides nothing", rules_[i].mark,
                   "found only layers without a matrix product for " + conditions_of(rules_[i]) +
                       ", expected one that " + use_of(rules_[i].use) +
                       " quantizes (kind: gather names embeddings)");
      continue;
    }
    if (matched_[i]) {
      problems.add("rule decides nothing", rules_[i].mark,
                   "found that earlier rules decide every layer of " + conditions_of(rules_[i]) +
                       ", expected a layer left for " + use_of(rules_[i].use));
      continue;
    }
    problems.add("rule matches no layer", rules_[i].mark,
                 "found " + conditions_of(rules_[i]) + ", expected a layer of this model",
                 rules_[i].layer ? names.to(*rules_[i].layer) : "");
  }
}

std::vector<std::string> CompiledRules::listing() const {
  std::vector<std::string> out;
  for (bool exact : {true, false}) {
    for (uint32_t i = 0; i < rules_.size(); ++i) {
      if (exact_[i] != exact) continue;
      out.push_back(rules_[i].mark.text() + ": " + conditions_of(rules_[i]) + " → " +
                    use_of(rules_[i].use));
    }
  }
  return out;
}

}  // namespace loadstone::plan
