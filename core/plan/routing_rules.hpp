// `rules:` compiled against one graph.
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/pattern.hpp"
#include "config/problems.hpp"
#include "config/quant_config.hpp"
#include "graph/graph.hpp"
#include "plan/routing_names.hpp"

namespace loadstone::plan {

/// What `use:` says, for messages: a method's name or "keep".
std::string use_of(const config::Choice& use);

class CompiledRules {
 public:
  /// `rules` must outlive this. Errors: invalid_config (patterns).
  static Result<CompiledRules> make(const std::vector<config::Rule>& rules);

  /// Rules that hold for a layer, strongest first: those naming its exact path, then in order. A
  /// rule that names some parts of a fused layer only is a problem (once a rule).
  std::vector<uint32_t> matching(const graph::Layer& layer, const graph::GraphComponent& component,
                                 const formats::Component& stored, const LayerNames& names,
                                 config::Problems& problems);

  bool is_exact(uint32_t rule) const { return exact_[rule]; }
  /// Whether the rule itself speaks of lookups, convolutions and the like: by exact path or kind.
  bool names_kind(uint32_t rule) const { return exact_[rule] || rules_[rule].kind.has_value(); }
  /// What became of a rule at a layer that it holds for.
  void decided(uint32_t rule) { decided_[rule] = true; }
  void outvoted(uint32_t rule) { outvoted_[rule] = true; }

  /// Unmatched and shadowed rules.
  void check(bool allow_unmatched, const NearestName& names, config::Problems& problems) const;
  /// In order of precedence, as `plan --rules` prints them.
  std::vector<std::string> listing() const;

 private:
  bool holds(const config::Rule& rule, const graph::Layer& layer,
             const formats::Component& stored) const;
  const std::vector<uint32_t>& by_role(const graph::Layer& layer);
  const std::vector<uint32_t>& by_component(const graph::GraphComponent& component);
  void disagree(uint32_t first, uint32_t second, config::Problems& problems);

  std::span<const config::Rule> rules_;  // of the configuration, which outlives this
  std::vector<bool> exact_, matched_, decided_, outvoted_, reported_;
  config::PatternSet layers_, roles_, components_;
  std::vector<uint32_t> without_layer_;
  std::unordered_map<std::string, std::vector<uint32_t>> role_hits_, component_hits_;
};

}  // namespace loadstone::plan
