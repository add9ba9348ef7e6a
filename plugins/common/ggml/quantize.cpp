#include "common/ggml/quantize.hpp"

#include <algorithm>
#include <cmath>

#include "common/ggml/bytes.hpp"
#include "common/ggml/grids.hpp"

namespace loadstone::ggml {
namespace {

void store_half(uint8_t* at, float value) {
  const uint16_t bits = common::f16_encode(value);
  std::memcpy(at, &bits, sizeof bits);
}

float inverse(float d) { return d == 0 ? 0 : 1 / d; }

/// The value of largest magnitude, with its sign; the first of several.
float largest(const float* x, int count) {
  return *std::max_element(x, x + count,
                           [](float a, float b) { return std::abs(a) < std::abs(b); });
}

/// trunc(value), kept in [0, top]; 0 for the NaN that a scale too small to invert leaves.
uint32_t truncated(float value, uint32_t top) {
  if (!(value > 0)) return 0;
  return value < static_cast<float>(top) ? static_cast<uint32_t>(value) : top;
}

/// Half away from zero, kept in [-top, top]; NaN as above.
int rounded(float value, int top) {
  if (!(std::abs(value) > 0)) return 0;
  const auto limit = static_cast<float>(top);
  return static_cast<int>(std::round(std::clamp(value, -limit, limit)));
}

void pack_nibbles(const uint32_t code[32], uint8_t qs[16]) {
  for (int j = 0; j < 16; ++j) {
    qs[j] = static_cast<uint8_t>((code[j] & 15u) | (code[j + 16] & 15u) << 4);
  }
}

void pack_high_bits(const uint32_t code[32], uint8_t at[4]) {
  uint32_t bits = 0;
  for (int j = 0; j < 32; ++j) bits |= (code[j] >> 4 & 1u) << j;
  std::memcpy(at, &bits, sizeof bits);
}

void q8_0(const float* x, uint8_t* block) {
  const float d = std::abs(largest(x, 32)) / 127.0f;
  const float id = inverse(d);
  store_half(block, d);
  for (int j = 0; j < 32; ++j) {
    block[2 + j] = static_cast<uint8_t>(rounded(x[j] * id, 127));
  }
}

/// Q4_0 and Q5_0: signed levels around zero, the scale's sign that of the largest value. Product
/// and sum are rounded each: once only, as a fused multiply-add does it, gives another code for
/// about 1 in 7,000 bf16 values and other bytes than the oracle.
void signed_levels(const float* x, int levels, uint8_t* block, uint32_t code[32]) {
  const float middle = static_cast<float>(levels) / 2;
  const float d = largest(x, 32) / -middle;
  const float id = inverse(d);
  store_half(block, d);
  for (int j = 0; j < 32; ++j) {
    code[j] = truncated(x[j] * id + (middle + 0.5f), static_cast<uint32_t>(levels - 1));
  }
}

/// Q4_1 and Q5_1: levels from the minimum up.
void shifted_levels(const float* x, int levels, uint8_t* block, uint32_t code[32]) {
  const float low = *std::min_element(x, x + 32), high = *std::max_element(x, x + 32);
  const float d = (high - low) / static_cast<float>(levels - 1);
  const float id = inverse(d);
  store_half(block, d);
  store_half(block + 2, low);
  for (int j = 0; j < 32; ++j) {
    code[j] = truncated((x[j] - low) * id + 0.5f, static_cast<uint32_t>(levels - 1));
  }
}

void q4_0(const float* x, uint8_t* block) {
  uint32_t code[32];
  signed_levels(x, 16, block, code);
  pack_nibbles(code, block + 2);
}

void q5_0(const float* x, uint8_t* block) {
  uint32_t code[32];
  signed_levels(x, 32, block, code);
  pack_high_bits(code, block + 2);
  pack_nibbles(code, block + 6);
}

void q4_1(const float* x, uint8_t* block) {
  uint32_t code[32];
  shifted_levels(x, 16, block, code);
  pack_nibbles(code, block + 4);
}

void q5_1(const float* x, uint8_t* block) {
  uint32_t code[32];
  shifted_levels(x, 32, block, code);
  pack_high_bits(code, block + 4);
  pack_nibbles(code, block + 8);
}

/// Trits 0, 1, 2 of a super-block; its scale.
float trits(const float* x, uint32_t trit[256]) {
  const float d = std::abs(largest(x, 256));
  const float id = inverse(d);
  for (int i = 0; i < 256; ++i) {
    trit[i] = static_cast<uint32_t>(rounded(x[i] * id, 1) + 1);
  }
  return d;
}

/// `count` trits, `stride` apart, most significant first (a fifth one is 0 when there are four).
uint8_t trit_byte(const uint32_t* trit, int stride, int count) {
  uint32_t value = 0;
  for (int i = 0; i < 5; ++i) value = 3 * value + (i < count ? trit[i * stride] : 0);
  return static_cast<uint8_t>((value * 256 + 242) / 243);
}

void tq1_0(const float* x, uint8_t* block) {
  uint32_t trit[256];
  store_half(block + 52, trits(x, trit));
  for (int j = 0; j < 32; ++j) block[j] = trit_byte(trit + j, 32, 5);
  for (int j = 0; j < 16; ++j) block[32 + j] = trit_byte(trit + 160 + j, 16, 5);
  for (int j = 0; j < 4; ++j) block[48 + j] = trit_byte(trit + 240 + j, 4, 4);
}

void tq2_0(const float* x, uint8_t* block) {
  uint32_t trit[256];
  store_half(block + 64, trits(x, trit));
  for (int j = 0; j < 64; ++j) {
    const uint32_t* own = trit + 128 * (j / 32) + j % 32;
    block[j] = static_cast<uint8_t>(own[0] | own[32] << 2 | own[64] << 4 | own[96] << 6);
  }
}

void mxfp4(const float* x, uint8_t* block) {
  const float amax = std::abs(largest(x, 32));
  const int exponent = amax == 0 ? 0 : std::max(std::ilogb(amax) - 2 + 127, 0);
  const float d = half_of_e8m0(static_cast<uint32_t>(exponent));
  uint32_t code[32];
  for (int j = 0; j < 32; ++j) {
    code[j] = 0;
    float nearest = std::abs(d * static_cast<float>(kE2m1Doubled[0]) - x[j]);
    for (uint32_t level = 1; level < 16; ++level) {
      const float error = std::abs(d * static_cast<float>(kE2m1Doubled[level]) - x[j]);
      if (error < nearest) nearest = error, code[j] = level;
    }
  }
  block[0] = static_cast<uint8_t>(exponent);
  pack_nibbles(code, block + 1);
}

template <void (*kEncode)(const float*, uint8_t*), uint32_t kElems, uint32_t kNbytes>
void run(const float* from, uint64_t blocks, uint8_t* to) {
  for (uint64_t i = 0; i < blocks; ++i, from += kElems, to += kNbytes) kEncode(from, to);
}

struct Entry {
  Type type;
  Quantize encode;
};

constexpr Entry kEncoders[] = {
    {kQ4_0, run<q4_0, 32, 18>},    {kQ4_1, run<q4_1, 32, 20>},   {kQ5_0, run<q5_0, 32, 22>},
    {kQ5_1, run<q5_1, 32, 24>},    {kQ8_0, run<q8_0, 32, 34>},   {kTQ1_0, run<tq1_0, 256, 54>},
    {kTQ2_0, run<tq2_0, 256, 66>}, {kMXFP4, run<mxfp4, 32, 17>},
};

}  // namespace

Quantize quantizer(Type type) {
  for (const Entry& entry : kEncoders) {
    if (entry.type == type) return entry.encode;
  }
  return nullptr;
}

}  // namespace loadstone::ggml
