// The kernels behind int_packs.hpp; `begin` and `count` are multiples of 8. Private to this folder.
#pragma once

#include "common/int_packs/int_packs.hpp"

namespace loadstone::int_packs::avx2 {

void dequantize(const Matrix& matrix, uint64_t begin, uint64_t count, float* out);
void multiply(const Matrix& matrix, uint64_t begin, uint64_t count, const float* x, float* y);

}  // namespace loadstone::int_packs::avx2

namespace loadstone::int_packs::avx512 {

/// The first rows of the range, as far as this level has a product of its own (gptq of at most four
/// bits; awq in groups of whole 32s): how many they are, maybe none.
uint64_t multiply(const Matrix& matrix, uint64_t begin, uint64_t count, const float* x, float* y);

}  // namespace loadstone::int_packs::avx512
