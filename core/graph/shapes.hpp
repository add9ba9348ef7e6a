// What a module's tensors say about its matrix.
#pragma once

#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "graph/modules.hpp"

namespace loadstone::graph {

struct Matrix {
  LayerKind kind = LayerKind::other;
  uint64_t out = 0;
  uint64_t in = 0;  // 0: packed, only the method can tell
  uint64_t groups = 1;
  bool has_bias = false;
  bool two_d = false;  // the weight, or the tensor itself, has two axes
};

/// Linear when the weight is a matrix (plain, quantized or packed), grouped when it is a stack of
/// them under "experts", attention for lone KV scales; else other. `rank3_experts`: the module's
/// path says that a 3-D tensor is a stack of expert matrices.
Matrix matrix_of(const formats::Component& component, const Module& module, bool rank3_experts);

}  // namespace loadstone::graph
