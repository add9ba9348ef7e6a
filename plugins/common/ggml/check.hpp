// What a block may not hold: a scale or minimum that isn't finite.
#pragma once

#include <cstdint>

#include "common/ggml/types.hpp"

namespace loadstone::ggml {

/// The first of `blocks` blocks with a scale or minimum that is NaN or infinite, or `blocks` when
/// there is none. MXFP4's and NVFP4's scales are finite for every byte; an MXFP4 block counts as
/// bad where its scale takes one of its codes past float32.
uint64_t first_bad_scale(Type type, const uint8_t* from, uint64_t blocks);

}  // namespace loadstone::ggml
