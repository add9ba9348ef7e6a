// The arithmetic of README.md: equal bits at every level, within the bound of its formulas in
// float64, and near attention without quantization.
#include "runtime/attention/fp8.hpp"

#include <ATen/Context.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "runtime/attention/on_host.hpp"
#include "runtime/attention/testing/bound.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

constexpr Cpu kLevels[] = {Cpu::scalar, Cpu::avx2, Cpu::avx512};

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& x : out) x = normal(generator);
  return out;
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// What all three preparations make of one matrix, as bytes.
std::string prepared(int64_t rows, int64_t dim, Cpu cpu) {
  const auto x = random_floats(static_cast<size_t>(rows * (dim + 3)), 7);
  const Rows matrix{x.data(), rows, dim, dim + 3};
  const auto signs = rotation_signs(dim);
  std::vector<float> values(static_cast<size_t>(3 * rows * dim));
  std::vector<float> scales(static_cast<size_t>(rows + key_blocks(rows) + dim));
  prepare_q(matrix, signs, values.data(), scales.data(), cpu);
  prepare_k(matrix, signs, values.data() + rows * dim, scales.data() + rows, cpu);
  prepare_v(matrix, values.data() + 2 * rows * dim, scales.data() + rows + key_blocks(rows), cpu);
  return bytes_of(values) + bytes_of(scales);
}

TEST(Fp8Attention, EveryLevelPreparesTheSameBits) {
  for (const int64_t dim : {16, 32, 64, 128}) {
    for (const int64_t rows : {1, 127, 128, 129, 300}) {
      const std::string scalar = prepared(rows, dim, Cpu::scalar);
      for (const Cpu cpu : kLevels) {
        if (cpu <= common::best_cpu()) {
          EXPECT_EQ(prepared(rows, dim, cpu), scalar) << rows << "x" << dim;
        }
      }
    }
  }
}

TEST(Fp8Attention, EveryLevelWeighsTheSameBits) {
  for (const int64_t keys : {1, 2, 15, 16, 17, 127, 128, 129, 257, 1000}) {
    const auto products = random_floats(static_cast<size_t>(keys), 11);
    const auto scales = random_floats(static_cast<size_t>(key_blocks(keys)), 12);
    auto weighed = [&](Cpu cpu) {
      std::vector<float> row = products;
      for (float& x : row) x *= 20;
      row.push_back(weigh(row.data(), keys, 0.7f, scales.data(), cpu));
      return bytes_of(row);
    };
    for (const Cpu cpu : kLevels) {
      if (cpu > common::best_cpu()) continue;
      EXPECT_EQ(weighed(cpu), weighed(Cpu::scalar)) << keys;
    }
  }
}

TEST(Fp8Attention, RotationKeepsProducts) {
  for (const int64_t dim : {16, 32, 64, 128}) {
    const auto x = random_floats(static_cast<size_t>(2 * dim), 3);
    std::vector<double> a(x.begin(), x.begin() + dim), b(x.begin() + dim, x.end());
    double plain = 0, rotated = 0;
    for (int64_t i = 0; i < dim; ++i)
      plain += a[static_cast<size_t>(i)] * b[static_cast<size_t>(i)];
    a = rotated_by_matrix(a);
    b = rotated_by_matrix(b);
    for (int64_t i = 0; i < dim; ++i) {
      rotated += a[static_cast<size_t>(i)] * b[static_cast<size_t>(i)];
    }
    EXPECT_NEAR(plain, rotated, 1e-9);
  }
}

/// Scales and codes of q and k against the matrix in float64; k without its mean.
TEST(Fp8Attention, PreparesTheRotatedRows) {
  constexpr int64_t kRows = 150, kDim = 64;
  auto x = random_floats(kRows * kDim, 5);
  const Rows matrix{x.data(), kRows, kDim, kDim};
  std::vector<float> q(x.size()), k(x.size()), q_scales(kRows), k_scales(2);
  prepare_q(matrix, rotation_signs(kDim), q.data(), q_scales.data());
  prepare_k(matrix, rotation_signs(kDim), k.data(), k_scales.data());
  std::vector<double> mean(kDim);
  for (size_t i = 0; i < x.size(); ++i) mean[i % kDim] += x[i] / kRows;
  double largest_k[2] = {};
  for (size_t r = 0; r < kRows; ++r) {
    std::vector<double> row(x.begin() + static_cast<int64_t>(r) * kDim,
                            x.begin() + static_cast<int64_t>(r + 1) * kDim);
    const auto expected_q = rotated_by_matrix(row);
    for (size_t i = 0; i < kDim; ++i) row[i] -= mean[i];
    const auto expected_k = rotated_by_matrix(row);
    double largest_q = 0;
    for (size_t i = 0; i < kDim; ++i) {
      largest_q = std::max(largest_q, std::abs(expected_q[i]));
      largest_k[r / kKeyBlock] = std::max(largest_k[r / kKeyBlock], std::abs(expected_k[i]));
      const size_t at = r * kDim + i;
      const double q_found = q[at] * q_scales[r], k_found = k[at] * k_scales[r / kKeyBlock];
      EXPECT_NEAR(q_found, expected_q[i], std::abs(expected_q[i]) / 15.5 + q_scales[r] * 0x1p-9);
      EXPECT_NEAR(k_found, expected_k[i],
                  std::abs(expected_k[i]) / 15.5 + k_scales[r / kKeyBlock] * 0x1p-9);
    }
    EXPECT_NEAR(q_scales[r], largest_q / 448, largest_q * 1e-8);
  }
  for (int block : {0, 1}) EXPECT_NEAR(k_scales[block], largest_k[block] / 448, 1e-8);
}

TEST(Fp8Attention, TakesPowersOfTwo) {
  for (const int64_t dim : {16, 32, 64, 128}) EXPECT_TRUE(takes_fp8(dim)) << dim;
  for (const int64_t dim : {0, 1, 8, 24, 80, 96, 127, 256}) EXPECT_FALSE(takes_fp8(dim)) << dim;
}

struct Shape {
  int64_t batch, heads, kv_heads, queries, keys, dim;
};

AttentionCall random_call(const Shape& s, double spread) {
  at::manual_seed(17);
  const auto offset = at::randn({1, s.kv_heads, 1, s.dim}).mul(3);  // what the mean takes away
  return {.q = at::randn({s.batch, s.heads, s.queries, s.dim}).mul(spread),
          .k = at::randn({s.batch, s.kv_heads, s.keys, s.dim}).mul(spread).add(offset),
          .v = at::randn({s.batch, s.kv_heads, s.keys, s.dim}),
          .scale = 1.0 / std::sqrt(static_cast<double>(s.dim)),
          .causal = false,
          .fp8 = true};
}

class Fp8AttentionOf : public ::testing::TestWithParam<Shape> {};

TEST_P(Fp8AttentionOf, StaysInTheBoundOfItsFormulas) {
  for (const double spread : {0.3, 1.0, 4.0}) {
    const AttentionCall call = random_call(GetParam(), spread);
    const Distance found = distance_to_formulas(call, attention(call), kFloatSums);
    EXPECT_LE(found.of_bound, 1.0) << spread;
    EXPECT_LE(found.relative_l2, 1e-2) << spread;  // codes that flip beside a midpoint
  }
}

TEST_P(Fp8AttentionOf, IsNearPlainAttention) {
  AttentionCall call = random_call(GetParam(), 1.0);
  const at::Tensor quantized = attention(call);
  call.fp8 = false;
  const at::Tensor plain = attention(call);
  ASSERT_EQ(quantized.sizes(), plain.sizes());
  const double error = quantized.sub(plain).norm().item<double>() / plain.norm().item<double>();
  EXPECT_LE(error, 0.08);
  // It was quantized; one key's v is 448 of its scale, which is exact.
  EXPECT_GE(error, GetParam().keys == 1 ? 0.0 : 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Fp8AttentionOf,
                         ::testing::Values(Shape{1, 1, 1, 1, 1, 16}, Shape{1, 2, 2, 3, 7, 32},
                                           Shape{2, 2, 2, 65, 127, 64},
                                           Shape{1, 2, 2, 64, 128, 128},
                                           Shape{1, 1, 1, 130, 129, 128},
                                           Shape{1, 3, 3, 33, 300, 32}, Shape{2, 4, 2, 40, 200, 64},
                                           Shape{1, 6, 1, 17, 257, 16}));

TEST(Fp8Attention, ReadsStridedBf16AndAnswersInIt) {
  const Shape shape{2, 2, 2, 20, 150, 32};
  AttentionCall call = random_call(shape, 1.0);
  for (at::Tensor* x : {&call.q, &call.k, &call.v}) *x = x->to(at::kBFloat16);
  const at::Tensor dense = attention(call);
  EXPECT_EQ(dense.scalar_type(), at::kBFloat16);
  for (at::Tensor* x : {&call.q, &call.k, &call.v}) {
    *x = x->transpose(1, 2).contiguous().transpose(1, 2);  // [B, L, H, D] in memory
  }
  EXPECT_TRUE(attention(call).equal(dense));
}

/// Equal keys and weights: the mean of v, which is v where all rows of it are equal.
TEST(Fp8Attention, ZeroQueriesAndKeysGiveTheMeanOfV) {
  AttentionCall call = random_call({1, 1, 1, 4, 200, 32}, 1.0);
  call.q.zero_();
  call.k.zero_();
  call.v = at::full({1, 1, 200, 32}, 1.75);
  EXPECT_TRUE(attention(call).equal(at::full({1, 4, 32}, 1.75)));
  call.v.zero_();
  EXPECT_TRUE(attention(call).equal(at::zeros({1, 4, 32})));
}

/// One number that isn't finite never becomes a silent one.
TEST(Fp8Attention, KeepsWhatIsNotFinite) {
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    const Shape shape{1, 2, 2, 3, 200, 32};
    AttentionCall call = random_call(shape, 1.0);
    call.q[0][1][2][5] = bad;
    at::Tensor nan = attention(call).view({3, 2, 32}).isnan();
    EXPECT_EQ(nan.sum().item<int64_t>(), 32);
    EXPECT_TRUE(nan[2][1].all().item<bool>());
    call = random_call(shape, 1.0);
    call.k[0][0][199][3] = bad;
    nan = attention(call).view({3, 2, 32}).isnan();
    EXPECT_TRUE(nan.select(1, 0).all().item<bool>());
    EXPECT_FALSE(nan.select(1, 1).any().item<bool>());
    call = random_call(shape, 1.0);
    call.v[0][0][0][3] = bad;  // one channel
    nan = attention(call).view({3, 2, 32}).isnan();
    EXPECT_EQ(nan.sum().item<int64_t>(), 3);
  }
}

}  // namespace
}  // namespace loadstone::runtime::fp8_attention
