// PNG bytes ↔ 8-bit RGB pictures, through libpng. Torch-free.
#pragma once

#include <span>
#include <string>

#include "base/result.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::compare {

/// Any PNG as 8-bit RGB: grey and palette are widened, 16-bit samples scaled, alpha dropped; gamma
/// chunks are ignored, so samples are those in the file. `name` is how errors call it.
/// Errors: invalid_argument for what is no PNG, is damaged, or is larger than 2^28 pixels.
Result<Frame> decode_png(std::span<const std::byte> bytes, const std::string& name);

/// The picture as a PNG file.
Result<std::string> encode_png(const Frame& frame);

}  // namespace loadstone::compare
