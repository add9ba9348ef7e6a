// The quick way through a safetensors header: one pass over the form that every writer in use
// produces (no blanks, dtype, shape and data_offsets in this order, names without escapes).
#pragma once

#include <string_view>

#include "formats/safetensors.hpp"

namespace loadstone::formats {

/// Fills `out` (tensors in file order, absolute offsets; ranges and sorting are left to the caller)
/// and returns true, or returns false for any header that is not of that form or not right. It
/// reports nothing: SafetensorsParser, which takes every legal header, is the definition and says
/// what is wrong. Whatever this accepts, the parser accepts with the same result.
bool scan_safetensors_header(std::string_view text, SafetensorsHeader& out);

}  // namespace loadstone::formats
