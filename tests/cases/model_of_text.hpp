// Models of text-driven cases: small real files, and a graph of them.
#pragma once

#include <filesystem>
#include <memory>

#include "base/tree.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"

namespace loadstone::testing {

/// Writes a model's components below `dir`, `with` laid over them (null: as they are), and opens
/// it.
Result<std::shared_ptr<const formats::Checkpoint>> write_model(const std::filesystem::path& dir,
                                                               const Node& model, const Node* with);

/// What the family's adapter makes of the files, or what the model's own `graph` says.
Result<graph::Graph> graph_of(const formats::Checkpoint& checkpoint, const Node& model);

}  // namespace loadstone::testing
