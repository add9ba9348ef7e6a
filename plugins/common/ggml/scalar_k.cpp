#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/scalar.hpp"

namespace loadstone::ggml::scalar {
namespace {

/// Two-bit code of value i: two halves of 128, four shifts of 32 bytes each.
uint32_t two_bits(const uint8_t* qs, int i) {
  return qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3u;
}

/// Four-bit code of value i: pairs of 32, low nibbles first.
uint32_t four_bits(const uint8_t* qs, int i) {
  const uint8_t byte = qs[32 * (i / 64) + i % 32];
  return i / 32 % 2 == 0 ? byte & 15u : byte >> 4;
}

}  // namespace

void q2_k(const uint8_t* block, float* to) {
  const float d = load_half(block + 80), dmin = load_half(block + 82);
  for (int i = 0; i < 256; ++i) {
    const uint8_t scale = block[i / 16];
    const float dl = d * static_cast<float>(scale & 15);
    const float ml = dmin * static_cast<float>(scale >> 4);
    to[i] = dl * static_cast<float>(two_bits(block + 16, i)) - ml;
  }
}

void q3_k(const uint8_t* block, float* to) {
  const float d = load_half(block + 108);
  int8_t scale[16];
  unpack_q3_scales(block + 96, scale);
  for (int i = 0; i < 256; ++i) {
    const bool high = (block[i % 32] >> i / 32 & 1) != 0;
    const int q = static_cast<int>(two_bits(block + 32, i)) - (high ? 0 : 4);
    to[i] = d * static_cast<float>(scale[i / 16]) * static_cast<float>(q);
  }
}

void q4_k(const uint8_t* block, float* to) {
  const float d = load_half(block), dmin = load_half(block + 2);
  uint8_t scale[8], minimum[8];
  unpack_k_scales(block + 4, scale, minimum);
  for (int i = 0; i < 256; ++i) {
    const float dl = d * static_cast<float>(scale[i / 32]);
    const float ml = dmin * static_cast<float>(minimum[i / 32]);
    to[i] = dl * static_cast<float>(four_bits(block + 16, i)) - ml;
  }
}

void q5_k(const uint8_t* block, float* to) {
  const float d = load_half(block), dmin = load_half(block + 2);
  uint8_t scale[8], minimum[8];
  unpack_k_scales(block + 4, scale, minimum);
  for (int i = 0; i < 256; ++i) {
    const float dl = d * static_cast<float>(scale[i / 32]);
    const float ml = dmin * static_cast<float>(minimum[i / 32]);
    const uint32_t high = block[16 + i % 32] >> i / 32 & 1u;
    to[i] = dl * static_cast<float>(four_bits(block + 48, i) | high << 4) - ml;
  }
}

void q6_k(const uint8_t* block, float* to) {
  const uint8_t* qh = block + 128;
  const float d = load_half(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, step = i / 32 % 4, l = i % 32;
    const uint8_t low = block[64 * half + 32 * (step & 1) + l];
    const uint32_t four = step < 2 ? low & 15u : low >> 4;
    const uint32_t code = four | (qh[32 * half + l] >> 2 * step & 3u) << 4;
    const auto scale = static_cast<int8_t>(block[192 + i / 16]);
    to[i] = d * static_cast<float>(scale) * static_cast<float>(static_cast<int>(code) - 32);
  }
}

void iq4_xs(const uint8_t* block, float* to) {
  const float d = load_half(block);
  const uint32_t scales_high = load_u16(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    const uint32_t low = block[4 + sub / 2] >> 4 * (sub % 2) & 15u;
    const uint32_t scale = low | (scales_high >> 2 * sub & 3u) << 4;
    const float dl = d * static_cast<float>(static_cast<int>(scale) - 32);
    const uint8_t* qs = block + 8 + 16 * sub;
    for (int j = 0; j < 16; ++j) {
      *to++ = dl * static_cast<float>(kIq4Levels[qs[j] & 15]);
    }
    for (int j = 0; j < 16; ++j) {
      *to++ = dl * static_cast<float>(kIq4Levels[qs[j] >> 4]);
    }
  }
}

}  // namespace loadstone::ggml::scalar
