// Which files and tensors `dequantize` writes, from a plan: names, dtypes, shapes, origins.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/safetensors_writer.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// One tensor to write. From a method (`produced`): rows of layer plan `layer`. Else from `entry`:
/// its bytes, or its floats widened.
struct OutputTensor {
  formats::TensorSpec spec;
  bool produced = false;
  uint32_t layer = 0;  // index into Plan::layers
  uint32_t part = 0;   // rows of this part; all groups where the layer has one part for them
  const formats::TensorEntry* entry = nullptr;
  const formats::TensorEntry* factors = nullptr;  // --fold of a kept weight: one a column
};

struct OutputListing {
  std::string file;  // "transformer.safetensors"
  std::vector<OutputTensor> tensors;
};

/// In the order of components and layers. Pointers go into the plan's checkpoint.
/// Errors: unsupported (a kept dtype without a float32 form), internal (two outputs of one name).
Result<std::vector<OutputListing>> list_outputs(const plan::Plan& plan, bool fold);

/// A vector that the format multiplies into the layer's input, by its name below the module.
bool is_input_factor(std::string_view suffix);

}  // namespace loadstone::load
