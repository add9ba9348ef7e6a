// Little-endian loads and the scales that blocks pack, as all decoders use them.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "common/codecs/half.hpp"

namespace loadstone::ggml {

static_assert(std::endian::native == std::endian::little, "blocks are read as they lie");

inline uint32_t load_u16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

inline uint32_t load_u32(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

inline float load_half(const uint8_t* at) {
  return common::f16_decode(static_cast<uint16_t>(load_u16(at)));
}

/// MXFP4's scale: 2^(e-128); e = 0, 1 are subnormal. 255 is not NaN here.
constexpr float half_of_e8m0(uint32_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

/// NVFP4's scale: half of an e4m3 value, the top bit ignored; 0x7F is 0, but
/// 0xFF is 240 (as gguf-py and ggml have it).
constexpr float half_of_ue4m3(uint32_t code) {
  if (code == 0x7f) return 0;
  const uint32_t exponent = code >> 3 & 15u;
  const auto mantissa = static_cast<float>(code & 7u);
  if (exponent == 0) return mantissa * 0x1p-10f;
  return std::bit_cast<float>((exponent + 119) << 23) * (1 + mantissa * 0.125f);
}

/// Six-bit scales and minima of Q4_K and Q5_K, from 12 bytes.
inline void unpack_k_scales(const uint8_t* packed, uint8_t scale[8], uint8_t minimum[8]) {
  const uint32_t a = load_u32(packed), b = load_u32(packed + 4), c = load_u32(packed + 8);
  const uint32_t words[4] = {
      a & 0x3f3f3f3fu,
      (c & 0x0f0f0f0fu) | (a >> 6 & 0x03030303u) << 4,
      b & 0x3f3f3f3fu,
      (c >> 4 & 0x0f0f0f0fu) | (b >> 6 & 0x03030303u) << 4,
  };
  std::memcpy(scale, words, 8);
  std::memcpy(minimum, words + 2, 8);
}

/// Six-bit scales of Q3_K less 32, from 12 bytes.
inline void unpack_q3_scales(const uint8_t* packed, int8_t scale[16]) {
  const uint32_t a = load_u32(packed), b = load_u32(packed + 4), high = load_u32(packed + 8);
  const uint32_t low[4] = {a & 0x0f0f0f0fu, b & 0x0f0f0f0fu, a >> 4 & 0x0f0f0f0fu,
                           b >> 4 & 0x0f0f0f0fu};
  for (int word = 0; word < 4; ++word) {
    const uint32_t six = low[word] | (high >> 2 * word & 0x03030303u) << 4;
    for (int byte = 0; byte < 4; ++byte) {
      scale[4 * word + byte] = static_cast<int8_t>(static_cast<int>(six >> 8 * byte & 63u) - 32);
    }
  }
}

}  // namespace loadstone::ggml
