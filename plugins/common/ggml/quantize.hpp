// float32 to blocks, as gguf-py 0.19.0 rounds (numeric-definitions, section 7). Blocks are
// independent and the result doesn't depend on the machine.
#pragma once

#include <cstdint>

#include "common/ggml/types.hpp"

namespace loadstone::ggml {

/// Encodes `blocks` whole blocks of finite values.
using Quantize = void (*)(const float* from, uint64_t blocks, uint8_t* to);

/// Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, TQ1_0, TQ2_0, MXFP4; null for a type without an encoder.
Quantize quantizer(Type type);

}  // namespace loadstone::ggml
