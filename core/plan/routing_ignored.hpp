// Users' ignore lists: which layers they name, and which entries name none.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "config/choice.hpp"
#include "config/pattern.hpp"
#include "graph/graph.hpp"
#include "plan/routing_names.hpp"

namespace loadstone::plan {

using ChoicePtr = std::shared_ptr<const config::MethodChoice>;

/// What a list says of a layer. `in_part`: it names some parts of a fused layer only, a problem.
struct Ignored {
  const Node* entry = nullptr;  // the first that names it; valid while its choice is
  std::string field;            // what the method calls its list
  bool in_part = false;
};

/// The lists of all choices, each compiled when first asked. Problems are added to those given;
/// they have the entry's place.
class IgnoreLists {
 public:
  void compile(const ChoicePtr& choice, config::Problems& problems);
  /// What names the layer, by its own name or all parts' names.
  Ignored find(const ChoicePtr& choice, const graph::Layer& layer, const LayerNames& names,
               config::Problems& problems);
  /// An entry of a compiled list counts as matched by layers that something else keeps.
  void mark(const ChoicePtr& choice, const LayerNames& names);
  /// Entries that no layer matched, with the nearest real names.
  void check(const NearestName& nearest, config::Problems& problems) const;

 private:
  struct List {
    std::string field = "ignored_layers";
    std::vector<Node> entries;
    config::PatternSet patterns;
    std::vector<bool> matched;
  };
  std::map<const config::MethodChoice*, List> lists_;
  std::set<std::tuple<const config::MethodChoice*, uint32_t, uint32_t>> reported_;
};

}  // namespace loadstone::plan
