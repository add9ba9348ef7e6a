// Tensors of a component → modules: which tensors belong to one weight.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.hpp"

namespace loadstone::graph {

struct ModuleTensor {
  uint32_t tensor = 0;  // index into the component's tensors
  std::string suffix;   // below the module; "" when the tensor is the module itself
};

struct Module {
  std::string name;  // less the strip prefix
  std::vector<ModuleTensor> tensors;
};

/// Groups the tensors `which` of a component (all when null) by module, in order of their first
/// tensor. Tensors with a sibling called weight…, qweight… belong to their parent, and so do
/// "weight" and "bias" always; a wrapped "X.linear.weight" beside "X.div.mul_scale" belongs to X;
/// a lone "X.k_scale" to X; every other tensor is a module of its own.
std::vector<Module> split_modules(const formats::Component& component,
                                  const std::vector<uint32_t>* which,
                                  const std::vector<std::string>& strip);

}  // namespace loadstone::graph
