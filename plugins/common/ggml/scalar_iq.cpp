#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/scalar.hpp"

namespace loadstone::ggml::scalar {
namespace {

float value_of(uint64_t grid, int l) {
  return static_cast<float>(static_cast<int8_t>(grid >> 8 * l & 255u));
}

/// `count` values of a grid entry, bit l of `signs` negates.
void signed_grid(float scale, uint64_t grid, uint32_t signs, int count, float* to) {
  for (int l = 0; l < count; ++l) {
    const float magnitude = scale * value_of(grid, l);
    to[l] = (signs >> l & 1u) != 0 ? -magnitude : magnitude;
  }
}

/// IQ1: eight values `scale·(grid + delta)`.
void shifted_grid(float scale, uint64_t grid, bool minus, float* to) {
  const float delta = minus ? -0.125f : 0.125f;
  for (int l = 0; l < 8; ++l) to[l] = scale * (value_of(grid, l) + delta);
}

}  // namespace

void iq2_xxs(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint8_t* at = block + 2 + 8 * sub;
    const uint32_t aux = load_u32(at + 4);
    const float db = d * (0.5f + static_cast<float>(aux >> 28)) * 0.25f;
    for (int g = 0; g < 4; ++g, to += 8) {
      signed_grid(db, kIq2XxsGrid[at[g]], signs_of(aux >> 7 * g & 127u), 8, to);
    }
  }
}

void iq2_xs(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int g = 0; g < 32; ++g, to += 8) {
    const uint32_t code = load_u16(block + 2 + 2 * g);
    const uint32_t scale = block[66 + g / 4] >> 4 * (g / 2 % 2) & 15u;
    const float db = d * (0.5f + static_cast<float>(scale)) * 0.25f;
    signed_grid(db, kIq2XsGrid[code & 511u], signs_of(code >> 9), 8, to);
  }
}

void iq2_s(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int g = 0; g < 32; ++g, to += 8) {
    const uint32_t index = block[2 + g] | (block[66 + g / 4] >> 2 * (g % 4) & 3u) << 8;
    const uint32_t scale = block[74 + g / 4] >> 4 * (g / 2 % 2) & 15u;
    const float db = d * (0.5f + static_cast<float>(scale)) * 0.25f;
    signed_grid(db, kIq2SGrid[index], block[34 + g], 8, to);
  }
}

void iq3_xxs(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint32_t aux = load_u32(block + 66 + 4 * sub);
    const float db = d * (0.5f + static_cast<float>(aux >> 28)) * 0.5f;
    for (int g = 0; g < 8; ++g, to += 4) {
      const uint32_t signs = signs_of(aux >> 7 * (g / 2) & 127u) >> 4 * (g % 2);
      signed_grid(db, kIq3XxsGrid[block[2 + 8 * sub + g]], signs, 4, to);
    }
  }
}

void iq3_s(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int g = 0; g < 64; ++g, to += 4) {
    const uint32_t index = block[2 + g] | (block[66 + g / 8] >> g % 8 & 1u) << 8;
    const uint32_t scale = block[106 + g / 16] >> 4 * (g / 8 % 2) & 15u;
    const float db = d * static_cast<float>(1 + 2 * scale);
    signed_grid(db, kIq3SGrid[index], block[74 + g / 2] >> 4 * (g % 2), 4, to);
  }
}

void iq1_s(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int sub = 0; sub < 8; ++sub) {
    const uint32_t qh = load_u16(block + 34 + 2 * sub);
    const float dl = d * static_cast<float>(2 * (qh >> 12 & 7u) + 1);
    for (int g = 0; g < 4; ++g, to += 8) {
      const uint32_t index = block[2 + 4 * sub + g] | (qh >> 3 * g & 7u) << 8;
      shifted_grid(dl, kIq1SGrid[index], (qh & 0x8000u) != 0, to);
    }
  }
}

void iq1_m(const uint8_t* block, float* to) {
  uint32_t d_bits = 0;
  for (int i = 0; i < 4; ++i) d_bits |= load_u16(block + 48 + 2 * i) >> 12 << 4 * i;
  const float d = common::f16_decode(static_cast<uint16_t>(d_bits));
  for (int g = 0; g < 32; ++g, to += 8) {
    const uint32_t scale = load_u16(block + 48 + 2 * (g / 8)) >> 3 * (g / 2 % 4) & 7u;
    const float dl = d * static_cast<float>(2 * scale + 1);
    const uint32_t high = block[32 + g / 2] >> 4 * (g % 2) & 15u;
    const uint32_t index = block[g] | (high & 7u) << 8;
    shifted_grid(dl, kIq1SGrid[index], (high & 8u) != 0, to);
  }
}

}  // namespace loadstone::ggml::scalar
