// Runtime attention quantization: what dtype, and which steps and layers stay native.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/problems.hpp"

namespace loadstone::config {

/// `attention:` of a file. Null selectors: none given; an empty one names nothing.
struct Attention {
  std::string kv_cache_dtype;  // "" : native
  Mark dtype_mark, layers_mark;
  std::optional<std::vector<uint64_t>> skip_steps, skip_layers;
};

/// "0,1,4-6" (ASCII decimals and inclusive ranges, blanks and empty items ignored) or a list of
/// integers from 0. Blank text gives nothing. Sorted, each once.
/// Errors: invalid_config; at most 100,000 indices.
Result<std::optional<std::vector<uint64_t>>> parse_selector(const Node& value);

/// Checks the section: keys, selectors, dtype ("auto" and "float" are native; "fp8").
Attention read_attention(const Node& map, Problems& problems);

}  // namespace loadstone::config
