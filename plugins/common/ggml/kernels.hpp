// The decoders and products of each instruction level. Private to this folder.
#pragma once

#include "common/ggml/dequantize.hpp"

namespace loadstone::ggml {

namespace avx2 {
Dequantize dequantizer(Type type, Stores stores);
}
namespace avx512 {
Dequantize dequantizer(Type type, Stores stores);

/// multiply.hpp's product for a fixed number of rows of x.
using Multiply = void (*)(const uint8_t* blocks, uint64_t rows, uint64_t in, const float* x,
                          float* y, uint64_t y_stride);

/// The product of `m` rows, 1 to kMaxMultiplyRows, of a four-bit type; null for other types.
Multiply multiplier(Type type, uint64_t m);
}  // namespace avx512

}  // namespace loadstone::ggml
