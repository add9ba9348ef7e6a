// The type that unquantized floats are loaded as, by its names.
#pragma once

#include <string>

#include "base/dtype.hpp"
#include "base/result.hpp"

namespace loadstone::config {

/// "auto", "bf16", "float16", "f32", …; auto is DType::invalid. Errors: invalid_config.
Result<DType> parse_load_dtype(const std::string& name);

}  // namespace loadstone::config
