// Asking a method about one layer, with the tensor values that its answer depends on.
#pragma once

#include <vector>

#include "plan/plan.hpp"

namespace loadstone::plan {

struct Asked {
  plugin::LayerAnswer answer;
  std::vector<Value> values;  // read on the way
};

/// What the method would do with the layer. While it names tensors whose content it needs
/// (needs_value), they are read, at most 1 MiB a group, and it is asked again.
/// Errors: the method's own, io, internal (asks without end or for too much).
Result<Asked> ask(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
                  const graph::Layer& layer, const plugin::MethodConfig& config,
                  const Target& target, uint32_t want, DType load_dtype);

}  // namespace loadstone::plan
