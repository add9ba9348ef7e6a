// The way back: a family's module to its place in a file with the original names, which GGUF files
// of image models have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/adapter.hpp"

namespace loadstone::graph {

/// An adapter component's renames read backwards. A module that no rename speaks of keeps its name.
/// `component` outlives it.
class OriginalNames {
 public:
  explicit OriginalNames(const AdapterComponent& component);
  OriginalPlace place_of(std::string_view module) const;

 private:
  struct Way {
    uint32_t rename = 0;
    uint32_t index = 0, count = 1;
  };
  void add(std::string_view pattern, const Way& way);

  const AdapterComponent& component_;
  PathTable table_;
  std::vector<Way> ways_;
};

/// Why GGUF can't hold, or be, tensors of this component: its family has no name adapter. Names the
/// families that have one. `where` is the component's file or name.
Error no_name_adapter(const Graph& graph, const GraphComponent& component, std::string where);

}  // namespace loadstone::graph
