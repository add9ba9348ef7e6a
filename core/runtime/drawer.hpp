// What a family's networks offer behind Pipeline.
#pragma once

#include <ATen/core/Tensor.h>

#include <loadstone/runtime.hpp>
#include <memory>
#include <string>

#include "base/file.hpp"
#include "runtime/run_state.hpp"

namespace loadstone::runtime {

/// A loaded model as a family opens it.
struct DrawerSource {
  std::shared_ptr<const load::LoadedModel> model;
  at::ScalarType dtype = at::kFloat;  // of activations
  std::shared_ptr<RunState> state;    // shared by all layers
};

class Drawer {
 public:
  virtual ~Drawer() = default;
  /// Options are checked as far as any family's must be; LibTorch's exceptions are the caller's.
  virtual Result<Generated> generate(const GenerateOptions& options, const RunControl& control) = 0;
};

using MakeDrawer = Result<std::unique_ptr<Drawer>> (*)(const DrawerSource& source);

}  // namespace loadstone::runtime
