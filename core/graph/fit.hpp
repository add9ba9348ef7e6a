// Whether a file's tensors can take the place of a base model's component.
#pragma once

#include <span>

#include "graph/graph.hpp"

namespace loadstone::graph {

/// A component's tensors as its family's layers.
struct BuiltComponent {
  const formats::Component& component;
  std::span<const Layer> layers;
};

/// Every module of the base, in the family's names, has its weight and bias in the file with as
/// many elements a row and in all, and the file has no other; what one tensor of the file holds
/// counts together. Errors: invalid_checkpoint (lists up to 10 modules and the number).
Status check_fit(const BuiltComponent& file, const BuiltComponent& base);

}  // namespace loadstone::graph
