// The decoders of each instruction level. Private to this folder.
#pragma once

#include "common/ggml/dequantize.hpp"

namespace loadstone::ggml {

namespace avx2 {
Dequantize dequantizer(Type type, Stores stores);
}
namespace avx512 {
Dequantize dequantizer(Type type, Stores stores);
}

}  // namespace loadstone::ggml
