// The reference engine's spellings of what a configuration file holds.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/tree.hpp"

namespace loadstone::config {

/// Renames deprecated keys of a map: `quantization` and `diffusion_quantization_config` →
/// `quantization_config`; `kv_cache_dtype`, `kv_cache_skip_steps`, `kv_cache_skip_layers` →
/// `diffusion_…`. A null under either spelling counts as absent; both given is an error, even if
/// equal. Keys that it doesn't know stay as they are.
Result<Node> fold_engine_keys(const Node& map);

}  // namespace loadstone::config
