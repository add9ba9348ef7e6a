// Lookup grids of ggml's IQ types: 8 (IQ3: 4) int8 values an entry, packed little-endian, element 0
// in the lowest byte. Values: IQ2 {8, 25, 43}, IQ3_XXS {4, 12, …, 62}, IQ3_S odd 1..15, IQ1 {-1, 0,
// 1}. Source: ggml (MIT); grids.cpp is written by make_grids.py.
#pragma once

#include <cstdint>

namespace loadstone::ggml {

extern const uint64_t kIq2XxsGrid[256];
extern const uint64_t kIq2XsGrid[512];
extern const uint64_t kIq2SGrid[1024];
extern const uint32_t kIq3XxsGrid[256];
extern const uint32_t kIq3SGrid[512];
extern const uint64_t kIq1SGrid[2048];  // IQ1_M too

/// IQ4_NL's and IQ4_XS's levels.
inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
/// MXFP4's and NVFP4's levels: twice the e2m1 value.
inline constexpr int8_t kE2m1Doubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                            0, -1, -2, -3, -4, -6, -8, -12};

/// Eight sign bits of a 7-bit index (IQ2_XXS, IQ2_XS, IQ3_XXS): the eighth makes the parity even.
constexpr uint32_t signs_of(uint32_t index7) {
  return index7 | (static_cast<uint32_t>(__builtin_popcount(index7)) & 1u) << 7;
}

}  // namespace loadstone::ggml
