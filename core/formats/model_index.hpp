// model_index.json of a diffusers folder: which components a pipeline has.
#pragma once

#include <string>
#include <vector>

#include "base/tree.hpp"

namespace loadstone::formats {

struct IndexedComponent {
  std::string name;  // also its folder: [A-Za-z0-9_]+
  std::string library;
  std::string class_name;
};

/// Components in file order; `[null, null]` ones (absent parts) are left out, and so are settings
/// (keys with a leading underscore, scalars). Security checklist S16.
Result<std::vector<IndexedComponent>> parse_model_index(const Node& json, const std::string& path);

}  // namespace loadstone::formats
