#include "common/ggml/multiply.hpp"

#include <algorithm>

#include "common/ggml/dequantize.hpp"
#include "common/ggml/kernels.hpp"
#include "common/kernel.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace loadstone::ggml {
namespace {

constexpr uint64_t kChunk = 1024;  // values decoded at once: a multiple of every block
constexpr int kLanes = 32;         // partial sums of one output

struct Sums {
  alignas(64) float lane[kLanes];
  float total() const {
    float out[kLanes];
    std::copy(lane, lane + kLanes, out);
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) out[i] += out[i + width];
    }
    return out[0];
  }
};

using Accumulate = void (*)(const float* w, const float* x, uint64_t count, Sums& sums);

void accumulate_scalar(const float* w, const float* x, uint64_t count, Sums& sums) {
  for (uint64_t i = 0; i < count; ++i) sums.lane[i % kLanes] += w[i] * x[i];
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void accumulate_avx2(const float* w, const float* x,
                                                         uint64_t count, Sums& sums) {
  __m256 sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = _mm256_load_ps(sums.lane + 8 * i);
  uint64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (int i = 0; i < 4; ++i) {
      sum[i] =
          _mm256_fmadd_ps(_mm256_load_ps(w + k + 8 * i), _mm256_loadu_ps(x + k + 8 * i), sum[i]);
    }
  }
  for (int i = 0; i < 4; ++i) _mm256_store_ps(sums.lane + 8 * i, sum[i]);
  accumulate_scalar(w + k, x + k, count - k, sums);
}

__attribute__((target("avx512f"))) void accumulate_avx512(const float* w, const float* x,
                                                          uint64_t count, Sums& sums) {
  __m512 a = _mm512_load_ps(sums.lane), b = _mm512_load_ps(sums.lane + 16);
  uint64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    a = _mm512_fmadd_ps(_mm512_load_ps(w + k), _mm512_loadu_ps(x + k), a);
    b = _mm512_fmadd_ps(_mm512_load_ps(w + k + 16), _mm512_loadu_ps(x + k + 16), b);
  }
  _mm512_store_ps(sums.lane, a);
  _mm512_store_ps(sums.lane + 16, b);
  accumulate_scalar(w + k, x + k, count - k, sums);
}
#endif

Accumulate accumulator(common::Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == common::Cpu::avx512) return accumulate_avx512;
  if (cpu == common::Cpu::avx2) return accumulate_avx2;
#endif
  return accumulate_scalar;
}

}  // namespace

void multiply(Type type, const uint8_t* blocks, uint64_t rows, uint64_t in, const float* x,
              uint64_t m, float* y, uint64_t y_stride, common::Cpu cpu) {
#if defined(__x86_64__)
  if (cpu == common::Cpu::avx512 && m > 0) {
    if (const auto direct = avx512::multiplier(type, m)) {
      return direct(blocks, rows, in, x, y, y_stride);
    }
  }
#endif
  const TypeInfo& info = *find_type(type);
  const Dequantize decode = dequantizer(type, Stores::cached, cpu);
  const Accumulate accumulate = accumulator(cpu);
  for (uint64_t row = 0; row < rows; ++row) {
    Sums sums[kMaxMultiplyRows] = {};
    for (uint64_t k = 0; k < in; k += kChunk) {
      alignas(64) float w[kChunk];
      const uint64_t count = std::min(kChunk, in - k);
      for (uint64_t at = 0; at < count / info.elems * info.nbytes; at += 64) {
        common::read_ahead(blocks + at);
      }
      decode(blocks, count / info.elems, w);
      blocks += count / info.elems * info.nbytes;
      for (uint64_t i = 0; i < m; ++i) accumulate(w, x + i * in + k, count, sums[i]);
    }
    for (uint64_t i = 0; i < m; ++i) y[i * y_stride + row] = sums[i].total();
  }
}

}  // namespace loadstone::ggml
