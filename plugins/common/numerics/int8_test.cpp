#include "common/numerics/int8.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

TEST(Int8, ZeroRowHasScaleAndCodesZero) {
  const float x[] = {0.0f, -0.0f, 0.0f};
  int8_t codes[3] = {9, 9, 9};
  EXPECT_EQ(int8_quantize_row(x, codes, 3), 0.0f);
  for (const int8_t code : codes) EXPECT_EQ(code, 0);
}

TEST(Int8, RoundsHalvesToEvenAndSaturates) {
  const float x[] = {127.0f, 0.5f, 1.5f, -0.5f, -2.5f, -127.0f, 126.49f};
  int8_t codes[7];
  EXPECT_EQ(int8_quantize_row(x, codes, 7), 1.0f);
  const int8_t wanted[] = {127, 0, 2, 0, -2, -127, 126};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(codes[i], wanted[i]) << i;
  const float wide[] = {1e9f, -1e9f, 3.0f};
  int8_quantize_fixed(wide, 1.0f, -3, codes, 3);
  EXPECT_EQ(codes[0], 127);
  EXPECT_EQ(codes[1], -128);
  EXPECT_EQ(codes[2], 0);
}

TEST(Int8, AffineAddsTheOffsetBeforeItRounds) {
  const float x[] = {1.0f, 1.5f, -1.5f, 200.0f, -200.0f};
  int8_t codes[5];
  int8_quantize_affine(x, 1.0f, 7.0f, codes, 5);
  const int8_t wanted[] = {8, 8, 6, 127, -128};  // 8.5 and 5.5 go to the even code
  for (int i = 0; i < 5; ++i) EXPECT_EQ(codes[i], wanted[i]) << i;
}

TEST(Int8, AffineMultipliesByTheReciprocal) {
  testing::Random random(12);
  int differ = 0;
  for (int i = 0; i < 20000; ++i) {
    const float scale = 0.01f + std::abs(random.uniform());
    const float x =
        scale * (static_cast<float>(static_cast<int>(random.bits() % 200) - 100) + 0.5f);
    int8_t code = 0, divided = 0;
    int8_quantize_affine(&x, 1.0f / scale, 3.0f, &code, 1);
    int8_quantize_fixed(&x, scale, 3.0f, &divided, 1);
    const float wanted = std::nearbyint(x * (1.0f / scale) + 3.0f);
    EXPECT_EQ(code, static_cast<int8_t>(std::fmax(-128.0f, std::fmin(wanted, 127.0f))));
    differ += code != divided;
  }
  EXPECT_GT(differ, 0);
}

TEST(Int4, RowsReachSevenAndKeepInt8sRules) {
  const float x[] = {7.0f, 0.5f, 1.5f, -7.0f, -2.5f};
  int8_t codes[5];
  EXPECT_EQ(int4_quantize_row(x, codes, 5), 1.0f);
  const int8_t wanted[] = {7, 0, 2, -7, -2};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(codes[i], wanted[i]) << i;
  const float zeros[] = {0.0f, -0.0f};
  EXPECT_EQ(int4_quantize_row(zeros, codes, 2), 0.0f);
  const float bad[] = {1.0f, NAN};
  EXPECT_TRUE(std::isnan(int4_quantize_row(bad, codes, 2)));
}

TEST(Int8, FactorIsNotTheReciprocalOfTheScale) {
  testing::Random random(3);
  int differ = 0;
  for (int i = 0; i < 1000; ++i) {
    const float amax = 1.0f + std::abs(random.uniform());
    differ += int8_factor(amax) != 1.0f / int8_scale(amax);
  }
  EXPECT_GT(differ, 0);
}

TEST(Int8, NonFiniteRowsHaveScaleNan) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const float x[] = {1.0f, bad};
    int8_t codes[2];
    EXPECT_TRUE(std::isnan(int8_quantize_row(x, codes, 2)));
  }
}

TEST(Int8, TinyRowsKeepTheirShape) {
  const float x[] = {1e-40f, -5e-41f, 0.0f};
  int8_t codes[3];
  EXPECT_EQ(int8_quantize_row(x, codes, 3), 1e-40f / 127.0f);
  EXPECT_EQ(codes[0], 127);
  EXPECT_NEAR(codes[1], -63.5, 0.6);
  EXPECT_EQ(codes[2], 0);
}

TEST(Int8Kernels, EveryLevelComputesTheSameCodes) {
  testing::Random random(8);
  for (const size_t n : {0u, 1u, 15u, 16u, 17u, 63u, 64u, 65u, 129u, 1000u}) {
    std::vector<float> x(n);
    for (float& value : x) value = random.uniform() * 3.0f;
    std::vector<int8_t> row(n), fixed(n), affine(n), narrow(n);
    std::vector<float> values(n);
    const float scale = int8_quantize_row(x.data(), row.data(), n, Cpu::scalar);
    int8_quantize_fixed(x.data(), 0.05f, -3, fixed.data(), n, Cpu::scalar);
    int8_quantize_affine(x.data(), 20.3f, -3, affine.data(), n, Cpu::scalar);
    int4_quantize_row(x.data(), narrow.data(), n, Cpu::scalar);
    int8_dequantize(row.data(), 0.3f, values.data(), n, Cpu::scalar);
    for (const Cpu cpu : testing::levels()) {
      std::vector<int8_t> codes(n);
      std::vector<float> out(n);
      EXPECT_EQ(int8_quantize_row(x.data(), codes.data(), n, cpu), scale);
      EXPECT_EQ(codes, row);
      int8_quantize_fixed(x.data(), 0.05f, -3, codes.data(), n, cpu);
      EXPECT_EQ(codes, fixed);
      int8_quantize_affine(x.data(), 20.3f, -3, codes.data(), n, cpu);
      EXPECT_EQ(codes, affine);
      int4_quantize_row(x.data(), codes.data(), n, cpu);
      EXPECT_EQ(codes, narrow);
      int8_dequantize(row.data(), 0.3f, out.data(), n, cpu);
      EXPECT_EQ(out, values);
    }
  }
}

}  // namespace
}  // namespace loadstone::common
