#include "runtime/attention/fp8.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "common/codecs/e4m3.hpp"
#include "common/kernel.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

using common::e4m3_round;

constexpr uint32_t kSignsSeed = 425500;
constexpr int kLanes = 16;  // of reductions: the same partial results at every level

LOADSTONE_INLINE float bits(uint32_t word) { return std::bit_cast<float>(word); }

/// Largest magnitude as bits: what isn't finite is larger than anything that is.
LOADSTONE_INLINE uint32_t largest(const float* x, int64_t n, uint32_t found) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t a = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu;
    found = a > found ? a : found;
  }
  return found;
}

/// NaN for what isn't finite.
LOADSTONE_INLINE float scale_of(uint32_t magnitude) {
  const float scale = std::max(bits(magnitude) / common::kE4m3Max, kMinScale);
  return magnitude < 0x7f800000u ? scale : std::numeric_limits<float>::quiet_NaN();
}

LOADSTONE_INLINE void quantize(float* x, int64_t n, float scale) {
  for (int64_t i = 0; i < n; ++i) x[i] = e4m3_round(x[i] / scale);
}

/// x·diag(signs)·H/√dim, H in Sylvester's order, by butterflies of growing distance.
LOADSTONE_INLINE void rotate(float* x, const float* signs, int64_t dim) {
  for (int64_t i = 0; i < dim; ++i) x[i] *= signs[i];
  for (int64_t half = 1; half < dim; half *= 2) {
    for (int64_t base = 0; base < dim; base += 2 * half) {
      for (int64_t i = base; i < base + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const float root = 1.0f / std::sqrt(static_cast<float>(dim));
  for (int64_t i = 0; i < dim; ++i) x[i] *= root;
}

LOADSTONE_INLINE void prepare_q_body(const Rows& q, const float* signs, float* values,
                                     float* scales) {
  for (int64_t r = 0; r < q.rows; ++r) {
    float* row = values + r * q.dim;
    std::memcpy(row, q.at + r * q.stride, static_cast<size_t>(q.dim) * sizeof(float));
    rotate(row, signs, q.dim);
    scales[r] = scale_of(largest(row, q.dim, 0));
    quantize(row, q.dim, scales[r]);
  }
}
LOADSTONE_KERNEL(prepare_q, (const Rows& q, const float* signs, float* values, float* scales),
                 (q, signs, values, scales))

LOADSTONE_INLINE void prepare_k_body(const Rows& k, const float* signs, float* values,
                                     float* scales) {
  float sum[kMaxDim] = {}, part[kMaxDim];
  for (int64_t begin = 0; begin < k.rows; begin += kKeyBlock) {
    std::fill_n(part, k.dim, 0.0f);
    for (int64_t r = begin; r < std::min(begin + kKeyBlock, k.rows); ++r) {
      for (int64_t i = 0; i < k.dim; ++i) part[i] += k.at[r * k.stride + i];
    }
    for (int64_t i = 0; i < k.dim; ++i) sum[i] += part[i];
  }
  for (int64_t i = 0; i < k.dim; ++i) sum[i] /= static_cast<float>(k.rows);
  for (int64_t begin = 0; begin < k.rows; begin += kKeyBlock) {
    const int64_t end = std::min(begin + kKeyBlock, k.rows);
    uint32_t magnitude = 0;
    for (int64_t r = begin; r < end; ++r) {
      float* row = values + r * k.dim;
      for (int64_t i = 0; i < k.dim; ++i) row[i] = k.at[r * k.stride + i] - sum[i];
      rotate(row, signs, k.dim);
      magnitude = largest(row, k.dim, magnitude);
    }
    scales[begin / kKeyBlock] = scale_of(magnitude);
    quantize(values + begin * k.dim, (end - begin) * k.dim, scales[begin / kKeyBlock]);
  }
}
LOADSTONE_KERNEL(prepare_k, (const Rows& k, const float* signs, float* values, float* scales),
                 (k, signs, values, scales))

LOADSTONE_INLINE void prepare_v_body(const Rows& v, float* values, float* scales) {
  uint32_t magnitude[kMaxDim] = {};
  for (int64_t r = 0; r < v.rows; ++r) {
    for (int64_t i = 0; i < v.dim; ++i) {
      const uint32_t a = std::bit_cast<uint32_t>(v.at[r * v.stride + i]) & 0x7fffffffu;
      magnitude[i] = a > magnitude[i] ? a : magnitude[i];
    }
  }
  for (int64_t i = 0; i < v.dim; ++i) scales[i] = scale_of(magnitude[i]);
  for (int64_t r = 0; r < v.rows; ++r) {
    for (int64_t i = 0; i < v.dim; ++i) {
      values[r * v.dim + i] = e4m3_round(v.at[r * v.stride + i] / scales[i]);
    }
  }
}
LOADSTONE_KERNEL(prepare_v, (const Rows& v, float* values, float* scales), (v, values, scales))

/// 2^x for x up to 127, at least 2^-126; NaN stays.
LOADSTONE_INLINE float exp2_of(float x) {
  x = x < -126.0f ? -126.0f : x;
  constexpr float kMagic = 12582912.0f;  // 1.5·2^23: adding it rounds to whole numbers
  const float shifted = x + kMagic;
  const float f = x - (shifted - kMagic);
  float p = 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  return bits(std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23));
}

LOADSTONE_INLINE float block_max(const float* t, int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (int i = 0; i < kLanes; ++i) lanes[i] = t[j + i] > lanes[i] ? t[j + i] : lanes[i];
  }
  float found = lanes[0];
  for (int i = 1; i < kLanes; ++i) found = lanes[i] > found ? lanes[i] : found;
  for (; j < n; ++j) found = t[j] > found ? t[j] : found;
  return found;
}

LOADSTONE_INLINE void weigh_body(float* row, int64_t keys, float scale, const float* key_scales,
                                 float* maxima, float* sum) {
  float running = -std::numeric_limits<float>::infinity();
  for (int64_t begin = 0; begin < keys; begin += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, keys - begin), block = begin / kKeyBlock;
    float* t = row + begin;
    const float factor = scale * key_scales[block];
    for (int64_t j = 0; j < count; ++j) t[j] *= factor;
    running = std::max(running, std::ceil(block_max(t, count)));
    maxima[block] = running;
    const float shift = kPeakLog2 - running;
    for (int64_t j = 0; j < count; ++j) t[j] = e4m3_round(exp2_of(t[j] + shift));
  }
  float total = 0;
  for (int64_t begin = 0; begin < keys; begin += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, keys - begin);
    float* p = row + begin;
    const float factor = std::exp2(maxima[begin / kKeyBlock] - running);
    float part = 0;
    for (int64_t j = 0; j < count; ++j) {
      part += p[j];
      p[j] *= factor;
    }
    total += part * factor;
  }
  *sum = total;
}
LOADSTONE_KERNEL(weigh,
                 (float* row, int64_t keys, float scale, const float* key_scales, float* maxima,
                  float* sum),
                 (row, keys, scale, key_scales, maxima, sum))

}  // namespace

std::vector<float> rotation_signs(int64_t dim) {
  std::mt19937 generator(kSignsSeed);
  std::vector<float> signs(static_cast<size_t>(dim));
  for (float& sign : signs) sign = (generator() & 1u) != 0 ? -1.0f : 1.0f;
  return signs;
}

void prepare_q(const Rows& q, const std::vector<float>& signs, float* values, float* scales,
               Cpu cpu) {
  prepare_q_for(cpu)(q, signs.data(), values, scales);
}

void prepare_k(const Rows& k, const std::vector<float>& signs, float* values, float* scales,
               Cpu cpu) {
  prepare_k_for(cpu)(k, signs.data(), values, scales);
}

void prepare_v(const Rows& v, float* values, float* scales, Cpu cpu) {
  prepare_v_for(cpu)(v, values, scales);
}

float weigh(float* row, int64_t keys, float scale, const float* key_scales, Cpu cpu) {
  std::vector<float> maxima(static_cast<size_t>(key_blocks(keys)));
  float sum = 0;
  weigh_for(cpu)(row, keys, scale, key_scales, maxima.data(), &sum);
  return sum;
}

}  // namespace loadstone::runtime::fp8_attention
