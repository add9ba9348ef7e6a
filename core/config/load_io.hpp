// How file bytes reach a GPU, by its names.
#pragma once

#include <string>

#include "base/result.hpp"

namespace loadstone::config {

/// "pread" or "map"; whether it is map. Errors: invalid_config.
Result<bool> parse_load_io(const std::string& name);

}  // namespace loadstone::config
