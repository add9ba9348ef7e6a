// Blocks of ggml types to float32. The scalar decoders are the definition (numeric-definitions,
// section 7: gguf-py 0.19.0, products as it brackets them, one rounding each); the others are
// bit-equal (the payload of a NaN aside).
#pragma once

#include <cstdint>

#include "common/cpu.hpp"
#include "common/ggml/types.hpp"

namespace loadstone::ggml {

/// Decodes `blocks` whole blocks at `from` (any alignment; F16 and BF16: of 2) into blocks·elems
/// floats at `to`.
using Dequantize = void (*)(const uint8_t* from, uint64_t blocks, float* to);

/// How results are written: `streamed` goes past the caches, for output that is larger than they
/// are and not read soon (where `to` is not 64-byte aligned it is stored as `cached` all the same).
enum class Stores : uint8_t { cached, streamed };

/// The decoder of a type at an instruction level; the scalar one where that level has none. Null
/// for a type that doesn't decode.
Dequantize dequantizer(Type type, Stores stores = Stores::cached,
                       common::Cpu cpu = common::cpu_in_use());

}  // namespace loadstone::ggml
