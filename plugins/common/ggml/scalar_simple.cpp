#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/scalar.hpp"

namespace loadstone::ggml::scalar {
namespace {

uint32_t nibble(const uint8_t* qs, int j) { return j < 16 ? qs[j] & 15u : qs[j - 16] >> 4; }

uint32_t five_bits(const uint8_t* qs, uint32_t high, int j) {
  return nibble(qs, j) | (high >> j & 1u) << 4;
}

}  // namespace

void f32(const uint8_t* block, float* to) { std::memcpy(to, block, sizeof(float)); }

void q4_0(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int j = 0; j < 32; ++j) {
    to[j] = d * static_cast<float>(static_cast<int>(nibble(block + 2, j)) - 8);
  }
}

void q4_1(const uint8_t* block, float* to) {
  const float d = load_half(block), m = load_half(block + 2);
  for (int j = 0; j < 32; ++j) to[j] = d * static_cast<float>(nibble(block + 4, j)) + m;
}

void q5_0(const uint8_t* block, float* to) {
  const float d = load_half(block);
  const uint32_t high = load_u32(block + 2);
  for (int j = 0; j < 32; ++j) {
    to[j] = d * static_cast<float>(static_cast<int>(five_bits(block + 6, high, j)) - 16);
  }
}

void q5_1(const uint8_t* block, float* to) {
  const float d = load_half(block), m = load_half(block + 2);
  const uint32_t high = load_u32(block + 4);
  for (int j = 0; j < 32; ++j) {
    to[j] = d * static_cast<float>(five_bits(block + 8, high, j)) + m;
  }
}

void q8_0(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int j = 0; j < 32; ++j) to[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * d;
}

void iq4_nl(const uint8_t* block, float* to) {
  const float d = load_half(block);
  for (int j = 0; j < 32; ++j) to[j] = d * static_cast<float>(kIq4Levels[nibble(block + 2, j)]);
}

void mxfp4(const uint8_t* block, float* to) {
  const float d = half_of_e8m0(block[0]);
  for (int j = 0; j < 32; ++j) to[j] = d * static_cast<float>(kE2m1Doubled[nibble(block + 1, j)]);
}

void nvfp4(const uint8_t* block, float* to) {
  for (int sub = 0; sub < 4; ++sub) {
    const float d = half_of_ue4m3(block[sub]);
    const uint8_t* qs = block + 4 + 8 * sub;
    for (int j = 0; j < 8; ++j) {
      to[16 * sub + j] = d * static_cast<float>(kE2m1Doubled[qs[j] & 15]);
      to[16 * sub + 8 + j] = d * static_cast<float>(kE2m1Doubled[qs[j] >> 4]);
    }
  }
}

void tq1_0(const uint8_t* block, float* to) {
  const float d = load_half(block + 52);
  struct Run {
    int begin, bytes, trits;
  };
  constexpr Run kRuns[] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};
  for (const Run& run : kRuns) {
    uint32_t power = 1;
    for (int i = 0; i < run.trits; ++i, power *= 3) {
      for (int j = 0; j < run.bytes; ++j) {
        const uint32_t shifted = block[run.begin + j] * power & 255u;
        *to++ = d * static_cast<float>(static_cast<int>(shifted * 3 >> 8) - 1);
      }
    }
  }
}

void tq2_0(const uint8_t* block, float* to) {
  const float d = load_half(block + 64);
  for (int i = 0; i < 256; ++i) {
    const uint32_t code = block[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3u;
    to[i] = d * static_cast<float>(static_cast<int>(code) - 1);
  }
}

}  // namespace loadstone::ggml::scalar
