// Whether a file's tensors can take the place of a base model's component.
#pragma once

#include <span>
#include <string>

#include "graph/graph.hpp"

namespace loadstone::graph {

/// A component's tensors as its family's layers. `files` are those that its tensors lie in.
struct BuiltComponent {
  const formats::Component& component;
  std::span<const Layer> layers;
  std::span<const formats::FileEntry> files;
};

/// Every module of the base, in the family's names, has its weight and bias in the file with as
/// many elements a row and in all (the same shape where both have the family's names and aren't
/// GGUF), and the file has no other; what one tensor of the file holds counts together. Of a weight
/// in codes of another width, or in parts, only the presence is asked: its method knows its shape.
/// Errors: invalid_checkpoint (names file and tensor, or lists up to 10 modules and the number).
Status check_fit(const BuiltComponent& file, const BuiltComponent& base);

/// What says that a component with a config.json of its own means to be another model than the
/// base's: the first number or list that both configs give and that differs, as "key: found 2, base
/// has 4"; "" if there is none. Declared quantization doesn't count.
std::string other_geometry(const Node& own, const Node& base);

}  // namespace loadstone::graph
