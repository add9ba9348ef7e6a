// Which adapter a checkpoint belongs to, and which of its tensors are which component's.
#pragma once

#include <optional>
#include <vector>

#include "formats/checkpoint.hpp"
#include "graph/adapter.hpp"

namespace loadstone::graph {

/// One component of the graph before its layers are made.
struct Assignment {
  const AdapterComponent* knowledge = nullptr;
  std::string name;  // component's name in the graph
  uint32_t checkpoint_component = 0;
  std::optional<std::vector<uint32_t>> tensors;  // a share of them; nullopt: all
};

struct Recognition {
  const Adapter* adapter = nullptr;  // never null: "generic" applies when no family does
  bool known = true;
  std::string variant;
  const Node* support = nullptr;       // of the variant, else of the family; null if none is given
  std::vector<Assignment> components;  // with tensors; in the model's order
  std::vector<std::string> absent;
  std::vector<std::string> notes;
};

/// Errors: internal (no adapter called "generic").
Result<Recognition> recognise(const formats::Checkpoint& checkpoint, const Adapters& adapters);

}  // namespace loadstone::graph
