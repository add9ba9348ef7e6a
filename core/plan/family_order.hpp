// Rows in the order of the model's family, where a file has them in another.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"

namespace loadstone::plan {

/// The checkpoint seen through files that exchange the halves of every tensor whose part says
/// "swap_halves" (FLUX: the final layer's scale and shift): weights of any dtype or block type,
/// biases, scales a row or a block of rows. Whatever reads it, by whatever way, reads the family's
/// order. The same checkpoint where no part says so.
/// Errors: unsupported (a tensor whose leading axis isn't the layer's rows, an odd number of rows).
Result<std::shared_ptr<const formats::Checkpoint>> in_family_order(
    std::shared_ptr<const formats::Checkpoint> checkpoint, const graph::Graph& graph);

}  // namespace loadstone::plan
