#include "common/ggml/check.hpp"

#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"

namespace loadstone::ggml {
namespace {

/// Where a block keeps its float16 numbers; -1: none.
struct HalfPlaces {
  Type type;
  int first, second;
};

constexpr HalfPlaces kPlaces[] = {
    {kQ4_0, 0, -1},    {kQ4_1, 0, 2},    {kQ5_0, 0, -1},   {kQ5_1, 0, 2},     {kQ8_0, 0, -1},
    {kQ2_K, 80, 82},   {kQ3_K, 108, -1}, {kQ4_K, 0, 2},    {kQ5_K, 0, 2},     {kQ6_K, 208, -1},
    {kIQ2_XXS, 0, -1}, {kIQ2_XS, 0, -1}, {kIQ2_S, 0, -1},  {kIQ3_XXS, 0, -1}, {kIQ3_S, 0, -1},
    {kIQ1_S, 0, -1},   {kIQ4_NL, 0, -1}, {kIQ4_XS, 0, -1}, {kTQ1_0, 52, -1},  {kTQ2_0, 64, -1},
    {kF16, 0, -1},
};

bool finite_half(uint32_t bits) { return (bits & 0x7c00u) != 0x7c00u; }

bool finite_iq1_m(const uint8_t* block) {
  // The exponent's five bits lie in the top nibbles of the last two scale words.
  const uint32_t high = load_u16(block + 54) >> 12, low = load_u16(block + 52) >> 12;
  return finite_half(high << 12 | low << 8);
}

/// Scales from 2^125 on take the larger codes past float32.
bool finite_mxfp4(const uint8_t* block) {
  constexpr uint8_t kFirst = 253;
  if (block[0] < kFirst) return true;
  int largest = 0;
  for (int i = 1; i <= 16; ++i) {
    for (const int code : {block[i] & 7, block[i] >> 4 & 7}) {
      largest = kE2m1Doubled[code] > largest ? kE2m1Doubled[code] : largest;
    }
  }
  const float worst = half_of_e8m0(block[0]) * static_cast<float>(largest);
  return (std::bit_cast<uint32_t>(worst) & 0x7f800000u) != 0x7f800000u;
}

bool finite(Type type, const HalfPlaces* places, const uint8_t* block) {
  if (type == kIQ1_M) return finite_iq1_m(block);
  if (type == kMXFP4) return finite_mxfp4(block);
  if (type == kF32) return (load_u32(block) & 0x7f800000u) != 0x7f800000u;
  if (type == kBF16) return (load_u16(block) & 0x7f80u) != 0x7f80u;
  if (places == nullptr) return true;
  return finite_half(load_u16(block + places->first)) &&
         (places->second < 0 || finite_half(load_u16(block + places->second)));
}

}  // namespace

uint64_t first_bad_scale(Type type, const uint8_t* from, uint64_t blocks) {
  const HalfPlaces* places = nullptr;
  for (const HalfPlaces& one : kPlaces) {
    if (one.type == type) places = &one;
  }
  const uint32_t nbytes = find_type(type)->nbytes;
  for (uint64_t i = 0; i < blocks; ++i, from += nbytes) {
    if (!finite(type, places, from)) return i;
  }
  return blocks;
}

}  // namespace loadstone::ggml
