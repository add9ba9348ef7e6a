// One run of eight values of a block of each ggml type, in the float operations of
// common/ggml/scalar_*.cpp. Private to ggml.cu.
#pragma once

#include "common/cuda/types.cuh"
#include "common/ggml/grids.hpp"
#include "common/ggml/types.hpp"

namespace loadstone::common::cuda {

using ggml::Type;

/// Filled by ggml_prepare.
__device__ uint64_t grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024], grid_iq1_s[2048];
__device__ uint32_t grid_iq3_xxs[256], grid_iq3_s[512];

constexpr uint64_t packed_levels(const int8_t* levels) {
  uint64_t out = 0;
  for (int i = 0; i < 8; ++i) out |= uint64_t{static_cast<uint8_t>(levels[i])} << 8 * i;
  return out;
}
constexpr uint64_t kIq4Low = packed_levels(ggml::kIq4Levels);
constexpr uint64_t kIq4High = packed_levels(ggml::kIq4Levels + 8);
constexpr uint64_t kE2m1Low = packed_levels(ggml::kE2m1Doubled);
constexpr uint64_t kE2m1High = packed_levels(ggml::kE2m1Doubled + 8);

__device__ inline float level_of(uint64_t low, uint64_t high, uint32_t code) {
  const uint64_t half = code < 8 ? low : high;
  return static_cast<float>(static_cast<int8_t>(half >> 8 * (code & 7u) & 255u));
}

/// At even addresses.
__device__ inline uint32_t u16_at(const uint8_t* at) {
  return *reinterpret_cast<const uint16_t*>(at);
}
__device__ inline uint32_t u32_at(const uint8_t* at) { return u16_at(at) | u16_at(at + 2) << 16; }
__device__ inline float half_at(const uint8_t* at) {
  return __half2float(*reinterpret_cast<const __half*>(at));
}

/// Eight bytes.
struct Bytes {
  uint32_t low, high;
  __device__ explicit Bytes(const uint8_t* even) : low(u32_at(even)), high(u32_at(even + 4)) {}
  __device__ uint32_t operator[](int j) const { return (j < 4 ? low : high) >> 8 * (j % 4) & 255u; }
  __device__ uint32_t bits(int j, int shift, uint32_t mask) const {
    return (*this)[j] >> shift & mask;
  }
};

/// Nibbles of values [at, at+8) where 32 values are the low, then the high ones of 16 bytes.
struct Nibbles {
  Bytes bytes;
  int shift;
  __device__ Nibbles(const uint8_t* qs, int at)
      : bytes(qs + at % 16), shift(at % 32 < 16 ? 0 : 4) {}
  __device__ uint32_t operator[](int j) const { return bytes.bits(j, shift, 15u); }
};

__device__ inline float half_of_e8m0(uint32_t e) {
  return __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

__device__ inline float half_of_ue4m3(uint32_t code) {
  if (code == 0x7f) return 0;
  const uint32_t exponent = code >> 3 & 15u;
  const auto mantissa = static_cast<float>(code & 7u);
  if (exponent == 0) return mantissa * 0x1p-10f;
  return __uint_as_float((exponent + 119) << 23) * (1 + mantissa * 0.125f);
}

__device__ inline uint32_t signs_of(uint32_t index7) {
  return index7 | (static_cast<uint32_t>(__popc(index7)) & 1u) << 7;
}

/// Scale and minimum `i` of Q4_K's and Q5_K's 12 bytes.
__device__ inline uint32_t k_scale(const uint8_t* packed, int i) {
  return i < 4 ? packed[i] & 63u : (packed[4 + i] & 15u) | (packed[i - 4] >> 6) << 4;
}
__device__ inline uint32_t k_minimum(const uint8_t* packed, int i) {
  return i < 4 ? packed[4 + i] & 63u
               : static_cast<uint32_t>(packed[4 + i] >> 4) | (packed[i] >> 6) << 4;
}

/// Eight values scale·grid, negated by the bits of `signs`.
__device__ inline void signed_grid(float scale, uint64_t grid, uint32_t signs, float (&to)[8]) {
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float size = scale * static_cast<float>(static_cast<int8_t>(grid >> 8 * j & 255u));
    to[j] = (signs >> j & 1u) != 0 ? -size : size;
  }
}
__device__ inline void shifted_grid(float scale, uint64_t grid, bool minus, float (&to)[8]) {
  const float delta = minus ? -0.125f : 0.125f;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    to[j] = scale * (static_cast<float>(static_cast<int8_t>(grid >> 8 * j & 255u)) + delta);
  }
}

/// Values [at, at+8) of a block, at a multiple of 8.
template <Type kType>
struct Block;

#define LOADSTONE_BLOCK(type)                                                                    \
  template <>                                                                                    \
  struct Block<Type::type> {                                                                     \
    static __device__ void eight(const uint8_t* block, int at, float (&to)[8]);                  \
  };                                                                                             \
  __device__ inline void Block<Type::type>::eight(const uint8_t* block, [[maybe_unused]] int at, \
                                                  float(&to)[8])

LOADSTONE_BLOCK(kQ4_0) {
  const float d = half_at(block);
  const Nibbles q(block + 2, at);
  for (int j = 0; j < 8; ++j) to[j] = d * static_cast<float>(static_cast<int>(q[j]) - 8);
}
LOADSTONE_BLOCK(kQ4_1) {
  const float d = half_at(block), m = half_at(block + 2);
  const Nibbles q(block + 4, at);
  for (int j = 0; j < 8; ++j) to[j] = d * static_cast<float>(q[j]) + m;
}
LOADSTONE_BLOCK(kQ5_0) {
  const float d = half_at(block);
  const uint32_t high = u32_at(block + 2) >> at;
  const Nibbles q(block + 6, at);
  for (int j = 0; j < 8; ++j) {
    const uint32_t code = q[j] | (high >> j & 1u) << 4;
    to[j] = d * static_cast<float>(static_cast<int>(code) - 16);
  }
}
LOADSTONE_BLOCK(kQ5_1) {
  const float d = half_at(block), m = half_at(block + 2);
  const uint32_t high = u32_at(block + 4) >> at;
  const Nibbles q(block + 8, at);
  for (int j = 0; j < 8; ++j) {
    to[j] = d * static_cast<float>(q[j] | (high >> j & 1u) << 4) + m;
  }
}
LOADSTONE_BLOCK(kQ8_0) {
  const float d = half_at(block);
  const Bytes q(block + 2 + at);
  for (int j = 0; j < 8; ++j) to[j] = static_cast<float>(static_cast<int8_t>(q[j])) * d;
}
LOADSTONE_BLOCK(kIQ4_NL) {
  const float d = half_at(block);
  const Nibbles q(block + 2, at);
  for (int j = 0; j < 8; ++j) to[j] = d * level_of(kIq4Low, kIq4High, q[j]);
}
LOADSTONE_BLOCK(kMXFP4) {  // 17 bytes: odd addresses
  const float d = half_of_e8m0(block[0]);
  for (int j = 0; j < 8; ++j) {
    const uint32_t code = block[1 + at % 16 + j] >> (at < 16 ? 0 : 4) & 15u;
    to[j] = d * level_of(kE2m1Low, kE2m1High, code);
  }
}
LOADSTONE_BLOCK(kNVFP4) {
  const float d = half_of_ue4m3(block[at / 16]);
  const Bytes q(block + 4 + at / 16 * 8);
  for (int j = 0; j < 8; ++j) {
    to[j] = d * level_of(kE2m1Low, kE2m1High, q.bits(j, at % 16 == 0 ? 0 : 4, 15u));
  }
}
LOADSTONE_BLOCK(kTQ1_0) {
  const float d = half_at(block + 52);
  constexpr uint32_t kPowers[] = {1, 3, 9, 27, 81};
  for (int j = 0; j < 8; ++j) {
    const int i = at + j;
    const int trit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
    const int byte = i < 160 ? i % 32 : i < 240 ? 32 + i % 16 : 48 + i % 4;
    uint32_t power = kPowers[0];
    for (int p = 0; p < trit; ++p) power *= kPowers[1];
    const uint32_t shifted = block[byte] * power & 255u;
    to[j] = d * static_cast<float>(static_cast<int>(shifted * 3 >> 8) - 1);
  }
}
LOADSTONE_BLOCK(kTQ2_0) {
  const float d = half_at(block + 64);
  const Bytes q(block + 32 * (at / 128) + at % 32);
  for (int j = 0; j < 8; ++j) {
    to[j] = d * static_cast<float>(static_cast<int>(q.bits(j, 2 * (at / 32 % 4), 3u)) - 1);
  }
}
LOADSTONE_BLOCK(kQ2_K) {
  const uint32_t scale = block[at / 16];
  const float dl = half_at(block + 80) * static_cast<float>(scale & 15u);
  const float ml = half_at(block + 82) * static_cast<float>(scale >> 4);
  const Bytes q(block + 16 + 32 * (at / 128) + at % 32);
  for (int j = 0; j < 8; ++j) {
    to[j] = dl * static_cast<float>(q.bits(j, 2 * (at / 32 % 4), 3u)) - ml;
  }
}
LOADSTONE_BLOCK(kQ3_K) {
  const int s = at / 16;
  const uint32_t six =
      (block[96 + s % 8] >> s / 8 * 4 & 15u) | (block[104 + s % 4] >> 2 * (s / 4) & 3u) << 4;
  const float dl = half_at(block + 108) * static_cast<float>(static_cast<int>(six) - 32);
  const Bytes low(block + 32 + 32 * (at / 128) + at % 32), high(block + at % 32);
  for (int j = 0; j < 8; ++j) {
    const int four = high.bits(j, at / 32, 1u) != 0 ? 0 : 4;
    to[j] = dl * static_cast<float>(static_cast<int>(low.bits(j, 2 * (at / 32 % 4), 3u)) - four);
  }
}
LOADSTONE_BLOCK(kQ4_K) {
  const float dl = half_at(block) * static_cast<float>(k_scale(block + 4, at / 32));
  const float ml = half_at(block + 2) * static_cast<float>(k_minimum(block + 4, at / 32));
  const Bytes q(block + 16 + 32 * (at / 64) + at % 32);
  for (int j = 0; j < 8; ++j) {
    to[j] = dl * static_cast<float>(q.bits(j, at / 32 % 2 * 4, 15u)) - ml;
  }
}
LOADSTONE_BLOCK(kQ5_K) {
  const float dl = half_at(block) * static_cast<float>(k_scale(block + 4, at / 32));
  const float ml = half_at(block + 2) * static_cast<float>(k_minimum(block + 4, at / 32));
  const Bytes q(block + 48 + 32 * (at / 64) + at % 32), high(block + 16 + at % 32);
  for (int j = 0; j < 8; ++j) {
    const uint32_t code = q.bits(j, at / 32 % 2 * 4, 15u) | high.bits(j, at / 32, 1u) << 4;
    to[j] = dl * static_cast<float>(code) - ml;
  }
}
LOADSTONE_BLOCK(kQ6_K) {
  const int half = at / 128, step = at / 32 % 4, l = at % 32;
  const auto scale = static_cast<int8_t>(block[192 + at / 16]);
  const float dl = half_at(block + 208) * static_cast<float>(scale);
  const Bytes low(block + 64 * half + 32 * (step & 1) + l), high(block + 128 + 32 * half + l);
  for (int j = 0; j < 8; ++j) {
    const uint32_t code = low.bits(j, step < 2 ? 0 : 4, 15u) | high.bits(j, 2 * step, 3u) << 4;
    to[j] = dl * static_cast<float>(static_cast<int>(code) - 32);
  }
}
LOADSTONE_BLOCK(kIQ4_XS) {
  const int sub = at / 32;
  const uint32_t low = block[4 + sub / 2] >> 4 * (sub % 2) & 15u;
  const uint32_t scale = low | (u16_at(block + 2) >> 2 * sub & 3u) << 4;
  const float dl = half_at(block) * static_cast<float>(static_cast<int>(scale) - 32);
  const Nibbles q(block + 8 + 16 * sub, at);
  for (int j = 0; j < 8; ++j) to[j] = dl * level_of(kIq4Low, kIq4High, q[j]);
}
LOADSTONE_BLOCK(kIQ2_XXS) {
  const uint8_t* from = block + 2 + at / 32 * 8;
  const int g = at / 8 % 4;
  const uint32_t aux = u32_at(from + 4);
  const float db = half_at(block) * (0.5f + static_cast<float>(aux >> 28)) * 0.25f;
  signed_grid(db, grid_iq2_xxs[from[g]], signs_of(aux >> 7 * g & 127u), to);
}
LOADSTONE_BLOCK(kIQ2_XS) {
  const int g = at / 8;
  const uint32_t code = u16_at(block + 2 + 2 * g);
  const uint32_t scale = block[66 + g / 4] >> 4 * (g / 2 % 2) & 15u;
  const float db = half_at(block) * (0.5f + static_cast<float>(scale)) * 0.25f;
  signed_grid(db, grid_iq2_xs[code & 511u], signs_of(code >> 9), to);
}
LOADSTONE_BLOCK(kIQ2_S) {
  const int g = at / 8;
  const uint32_t index = block[2 + g] | (block[66 + g / 4] >> 2 * (g % 4) & 3u) << 8;
  const uint32_t scale = block[74 + g / 4] >> 4 * (g / 2 % 2) & 15u;
  const float db = half_at(block) * (0.5f + static_cast<float>(scale)) * 0.25f;
  signed_grid(db, grid_iq2_s[index], block[34 + g], to);
}
LOADSTONE_BLOCK(kIQ3_XXS) {
  const int sub = at / 32, g = at / 8 % 4;
  const uint32_t aux = u32_at(block + 66 + 4 * sub);
  const float db = half_at(block) * (0.5f + static_cast<float>(aux >> 28)) * 0.5f;
  const uint8_t* indices = block + 2 + 8 * sub + 2 * g;
  const uint64_t grid = grid_iq3_xxs[indices[0]] | uint64_t{grid_iq3_xxs[indices[1]]} << 32;
  signed_grid(db, grid, signs_of(aux >> 7 * g & 127u), to);
}
LOADSTONE_BLOCK(kIQ3_S) {
  const int g = at / 4;
  const uint32_t scale = block[106 + g / 16] >> 4 * (g / 8 % 2) & 15u;
  const float db = half_at(block) * static_cast<float>(1 + 2 * scale);
  const auto entry = [&](int i) {
    return uint64_t{grid_iq3_s[block[2 + i] | (block[66 + i / 8] >> i % 8 & 1u) << 8]};
  };
  signed_grid(db, entry(g) | entry(g + 1) << 32, block[74 + g / 2], to);
}
LOADSTONE_BLOCK(kIQ1_S) {
  const int sub = at / 32, g = at / 8 % 4;
  const uint32_t qh = u16_at(block + 34 + 2 * sub);
  const float dl = half_at(block) * static_cast<float>(2 * (qh >> 12 & 7u) + 1);
  const uint32_t index = block[2 + 4 * sub + g] | (qh >> 3 * g & 7u) << 8;
  shifted_grid(dl, grid_iq1_s[index], (qh & 0x8000u) != 0, to);
}
LOADSTONE_BLOCK(kIQ1_M) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= u16_at(block + 48 + 2 * i) >> 12 << 4 * i;
  const float d = __half2float(__ushort_as_half(static_cast<uint16_t>(bits)));
  const int g = at / 8;
  const uint32_t scale = u16_at(block + 48 + 2 * (g / 8)) >> 3 * (g / 2 % 4) & 7u;
  const uint32_t high = block[32 + g / 2] >> 4 * (g % 2) & 15u;
  shifted_grid(d * static_cast<float>(2 * scale + 1), grid_iq1_s[block[g] | (high & 7u) << 8],
               (high & 8u) != 0, to);
}
LOADSTONE_BLOCK(kF32) {
  for (int j = 0; j < 8; ++j) to[j] = reinterpret_cast<const float*>(block)[j];
}
LOADSTONE_BLOCK(kF16) {
  for (int j = 0; j < 8; ++j) to[j] = half_at(block + 2 * j);
}
LOADSTONE_BLOCK(kBF16) {
  for (int j = 0; j < 8; ++j) to[j] = __uint_as_float(u16_at(block + 2 * j) << 16);
}
#undef LOADSTONE_BLOCK

}  // namespace loadstone::common::cuda
