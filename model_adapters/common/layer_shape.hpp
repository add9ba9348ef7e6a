// What config.json says of a layer, held against the layer.
#pragma once

#include <string>

#include "base/result.hpp"
#include "runtime/linear.hpp"

namespace loadstone::networks {

/// Errors: invalid_checkpoint, with both shapes.
Status check_shape(const runtime::Linear& layer, int64_t in, int64_t out, const std::string& path);

}  // namespace loadstone::networks
