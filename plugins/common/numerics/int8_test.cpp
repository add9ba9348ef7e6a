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
    std::vector<int8_t> row(n), fixed(n);
    std::vector<float> values(n);
    const float scale = int8_quantize_row(x.data(), row.data(), n, Cpu::scalar);
    int8_quantize_fixed(x.data(), 0.05f, -3, fixed.data(), n, Cpu::scalar);
    int8_dequantize(row.data(), 0.3f, values.data(), n, Cpu::scalar);
    for (const Cpu cpu : testing::levels()) {
      std::vector<int8_t> codes(n);
      std::vector<float> out(n);
      EXPECT_EQ(int8_quantize_row(x.data(), codes.data(), n, cpu), scale);
      EXPECT_EQ(codes, row);
      int8_quantize_fixed(x.data(), 0.05f, -3, codes.data(), n, cpu);
      EXPECT_EQ(codes, fixed);
      int8_dequantize(row.data(), 0.3f, out.data(), n, cpu);
      EXPECT_EQ(out, values);
    }
  }
}

}  // namespace
}  // namespace loadstone::common
