#include "common/row_kernels.hpp"

#include <cmath>

// Sanitizers and function clones don't go together; clang has no clones for these.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && \
    !defined(__SANITIZE_ADDRESS__)
#define LS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LS_CLONES
#endif

namespace loadstone::networks::kernels {
namespace {

constexpr int64_t kLanes = 16;

inline float total(const float* lanes) {
  float sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

}  // namespace

LS_CLONES float sum_squares(const float* x, int64_t n) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += x[i + j] * x[i + j];
  }
  for (int64_t j = 0; i < n; ++i, ++j) lanes[j] += x[i] * x[i];
  return total(lanes);
}

LS_CLONES void mean_and_variance(const float* x, int64_t n, float& mean, float& variance) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += x[i + j];
  }
  for (int64_t j = 0; i < n; ++i, ++j) lanes[j] += x[i];
  mean = total(lanes) / static_cast<float>(n);
  float squares[kLanes] = {};
  for (i = 0; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float d = x[i + j] - mean;
      squares[j] += d * d;
    }
  }
  for (int64_t j = 0; i < n; ++i, ++j) squares[j] += (x[i] - mean) * (x[i] - mean);
  variance = total(squares) / static_cast<float>(n);
}

LS_CLONES void modulate(const float* x, float mean, float inverse, const float* scale,
                        const float* shift, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = ((x[i] - mean) * inverse) * (1.0f + scale[i]) + shift[i];
  }
}

LS_CLONES void scale_by(const float* x, float factor, const float* weight, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = (x[i] * factor) * weight[i];
}

LS_CLONES void add_product(float* x, const float* gate, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += gate[i] * y[i];
}

LS_CLONES void rotate_pairs(float* x, const float* cosine, const float* sine, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosine[i] - b * sine[i];
    x[2 * i + 1] = a * sine[i] + b * cosine[i];
  }
}

LS_CLONES void rotate_halves(float* x, const float* cosine, const float* sine, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cosine[i] - b * sine[i];
    x[i + half] = b * cosine[i] + a * sine[i];
  }
}

}  // namespace loadstone::networks::kernels
