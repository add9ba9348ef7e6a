#include <cstring>

#include "plugin/gemm.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace loadstone::plugin::detail {

namespace {

constexpr int kTile = 4;

void dot_scalar(const float* const* x, const float* const* w, uint64_t k, float* sums) {
  for (int i = 0; i < kTile; ++i) {
    for (int j = 0; j < kTile; ++j) {
      float sum = 0;
      for (uint64_t c = 0; c < k; ++c) sum += x[i][c] * w[j][c];
      sums[i * kTile + j] += sum;
    }
  }
}

int32_t dot_i8_scalar(const int8_t* x, const int8_t* w, uint64_t k) {
  int32_t sum = 0;
  for (uint64_t c = 0; c < k; ++c) sum += int32_t{x[c]} * int32_t{w[c]};
  return sum;
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) float sum_of(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

// Two rows of x at a time: 8 sums, 4 of w and 2 of x fit the 16 registers.
__attribute__((target("avx2,fma"))) void dot_avx2(const float* const* x, const float* const* w,
                                                  uint64_t k, float* sums) {
  const uint64_t whole = k / 8 * 8;
  for (int i = 0; i < kTile; i += 2) {
    __m256 acc[2][kTile] = {};
    for (uint64_t c = 0; c < whole; c += 8) {
      const __m256 x0 = _mm256_loadu_ps(x[i] + c);
      const __m256 x1 = _mm256_loadu_ps(x[i + 1] + c);
      for (int j = 0; j < kTile; ++j) {
        const __m256 wj = _mm256_loadu_ps(w[j] + c);
        acc[0][j] = _mm256_fmadd_ps(x0, wj, acc[0][j]);
        acc[1][j] = _mm256_fmadd_ps(x1, wj, acc[1][j]);
      }
    }
    for (int a = 0; a < 2; ++a) {
      for (int j = 0; j < kTile; ++j) {
        float sum = sum_of(acc[a][j]);
        for (uint64_t c = whole; c < k; ++c) sum += x[i + a][c] * w[j][c];
        sums[(i + a) * kTile + j] += sum;
      }
    }
  }
}

__attribute__((target("avx2"))) int32_t dot_i8_avx2(const int8_t* x, const int8_t* w, uint64_t k) {
  const uint64_t whole = k / 16 * 16;
  __m256i acc = _mm256_setzero_si256();
  for (uint64_t c = 0; c < whole; c += 16) {
    const __m256i a =
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + c)));
    const __m256i b =
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + c)));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), acc);
  int32_t sum = 0;
  for (const int32_t lane : lanes) sum += lane;
  return sum + dot_i8_scalar(x + whole, w + whole, k - whole);
}

// Pairwise, through memory (g++ 12 warns about its own _mm512_reduce_add_ps).
__attribute__((target("avx512f"))) float sum_of(__m512 v) {
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, v);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

__attribute__((target("avx512f"))) void dot_avx512(const float* const* x, const float* const* w,
                                                   uint64_t k, float* sums) {
  __m512 acc[kTile][kTile];
  for (auto& row : acc) {
    for (__m512& one : row) one = _mm512_setzero_ps();
  }
  for (uint64_t c = 0; c < k; c += 16) {
    const uint64_t left = k - c;
    const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
    __m512 wj[kTile];
    for (int j = 0; j < kTile; ++j) wj[j] = _mm512_maskz_loadu_ps(mask, w[j] + c);
    for (int i = 0; i < kTile; ++i) {
      const __m512 xi = _mm512_maskz_loadu_ps(mask, x[i] + c);
      for (int j = 0; j < kTile; ++j) acc[i][j] = _mm512_fmadd_ps(xi, wj[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kTile; ++i) {
    for (int j = 0; j < kTile; ++j) sums[i * kTile + j] += sum_of(acc[i][j]);
  }
}

#endif

std::vector<Kernel> detect() {
  std::vector<Kernel> out = {{"scalar", dot_scalar, dot_i8_scalar}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    out.push_back({"avx2", dot_avx2, dot_i8_avx2});
    if (__builtin_cpu_supports("avx512f")) out.push_back({"avx512", dot_avx512, dot_i8_avx2});
  }
#endif
  return out;
}

}  // namespace

const std::vector<Kernel>& kernels() {
  static const std::vector<Kernel> all = detect();
  return all;
}

}  // namespace loadstone::plugin::detail
