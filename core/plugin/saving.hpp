// Asking a method for its serialized form.
#pragma once

#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plugin {

/// One serialized tensor of a layer, below part `part`'s module.
struct SavedTensor {
  std::string name;
  DType dtype = DType::invalid;
  std::vector<uint64_t> shape;
  uint32_t part = 0;
  uint64_t nbytes = 0;
};

/// save_layer, checked. Errors: unsupported (the method has no serialized form) and its own.
Result<std::vector<SavedTensor>> ask_save(const MethodConfig& config, const ls_layer& layer,
                                          uint64_t note);
/// save_model: the declaration as one JSON document.
Result<Node> ask_save_model(const MethodConfig& config);

}  // namespace loadstone::plugin
