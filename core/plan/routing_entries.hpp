// A component map, or one flat method, resolved against the components of one graph.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/problems.hpp"
#include "config/quant_config.hpp"
#include "graph/graph.hpp"

namespace loadstone::plan {

/// What the user's map or flat method says about a component (or a scope of it).
struct Entry {
  bool given = false;                                  // false: nothing is said
  std::shared_ptr<const config::MethodChoice> choice;  // null with given: keep
  bool named = false;  // by its own name, alias or a pattern, not by `default` or a flat method
  bool scope = false;  // speaks of one scope of the component ("visual"), not of the whole
  std::string key;     // "transformer"; "" for a flat method
  Mark mark;
};

struct ComponentEntries {
  Entry whole;
  std::vector<Entry> scopes;  // parallel to the component's scopes; given only by their own names
};

/// One ComponentEntries for every component. Problems: unknown component (with the nearest name), a
/// method for a component that this checkpoint lacks, a flat method where the family has stages or
/// no default scope.
std::vector<ComponentEntries> resolve_entries(const graph::Graph& graph,
                                              const config::QuantConfig& quantization,
                                              const std::vector<bool>& declared,
                                              std::vector<std::string>& notes,
                                              config::Problems& problems);

/// In order of precedence, as `plan --rules` prints them.
std::vector<std::string> entry_listing(const config::QuantConfig& quantization);

}  // namespace loadstone::plan
