// Layers that a plugin runs: its apply on raw pointers.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "load/loaded_model.hpp"
#include "plan/plan.hpp"
#include "runtime/linear.hpp"
#include "runtime/run_state.hpp"

namespace loadstone::runtime {

/// A layer plan of the loaded model whose method applies it.
struct LayerSource {
  std::shared_ptr<const load::LoadedModel> model;
  uint32_t layer = 0;  // index into Plan::layers
};

/// `bias` [out] (or undefined) is what the host adds. Errors: what bind says; unsupported when the
/// method can't apply.
Result<std::unique_ptr<Linear>> quantized_linear(const LayerSource& source, at::Tensor bias,
                                                 std::shared_ptr<RunState> state);
/// Rows of a quantized table, as `dtype`.
Result<std::unique_ptr<Embedding>> quantized_embedding(const LayerSource& source,
                                                       at::ScalarType dtype,
                                                       std::shared_ptr<RunState> state);

}  // namespace loadstone::runtime
