// Rows of unsigned integers of 1 to 8 bits in a dense little-endian stream of 32-bit words: value i
// takes bits [i·bits, (i+1)·bits), so that 32 values fill `bits` words and others straddle two.
// Source: numeric-definitions, section 10 (pack-quantized); oracle: layers (ct_pack_quantized_w4).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

/// Words that `n` values take.
constexpr uint64_t packed_words(uint64_t n, uint32_t bits) { return (n * bits + 31) / 32; }

/// The first n values of `words` as floats, exact. Reads packed_words(n, bits) words.
void packed_ints_widen(const uint32_t* words, uint32_t bits, float* out, size_t n,
                       Cpu cpu = cpu_in_use());

/// Value `index` of a stream whose words lie `stride` words apart.
uint32_t packed_int_at(const uint32_t* words, uint64_t stride, uint64_t index, uint32_t bits);

/// out = (out - zero)·scale: one difference, exact for levels, and one product.
void packed_ints_scale(float* out, float zero, float scale, size_t n, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
