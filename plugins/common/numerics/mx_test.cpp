#include "common/numerics/mx.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/dual.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

struct Pair {
  MxRule rule;
  MxElement element;
  double largest;  // saturation never cuts an amax by more than this, in units of the scale
};
constexpr Pair kPairs[] = {
    {MxRule::ocp, MxElement::e4m3, 512.0},
    {MxRule::rceil, MxElement::e4m3, 448.0},
    {MxRule::ocp, MxElement::e2m1, 8.0},
    {MxRule::uos, MxElement::e2m1, 7.25},
};

std::vector<float> random_row(size_t n, uint32_t seed) {
  testing::Random random(seed);
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i)
    out[i] = std::ldexp(random.uniform(), static_cast<int>(i / 32) % 9);
  return out;
}

TEST(Mx, ScaleIsTheSmallestThatTheRuleAllows) {
  testing::Random random(2);
  for (const Pair& pair : kPairs) {
    for (int i = 0; i < 20000; ++i) {
      const float a =
          std::ldexp(1.0f + std::abs(random.uniform()), static_cast<int>(i % 200) - 100);
      const int b = mx_scale_byte(pair.rule, pair.element, a);
      const double in_units = std::ldexp(static_cast<double>(a), 127 - b);
      EXPECT_LE(in_units, pair.largest * (1 + 1e-7)) << a;
      EXPECT_GT(in_units * 2, pair.largest * (1 - 1e-7)) << a;
    }
  }
}

TEST(Mx, ByteCoversEveryFiniteInputAndMarksTheRest) {
  for (const Pair& pair : kPairs) {
    EXPECT_EQ(mx_scale_byte(pair.rule, pair.element, 0.0f), 0);
    EXPECT_EQ(mx_scale_byte(pair.rule, pair.element, INFINITY), 255);
    EXPECT_EQ(mx_scale_byte(pair.rule, pair.element, NAN), 255);
    EXPECT_LE(mx_scale_byte(pair.rule, pair.element, 3.4028235e38f), 254);
    EXPECT_LE(mx_scale_byte(pair.rule, pair.element, 1e-45f), 1);
  }
}

TEST(Mx, CodesAreTheNearestElementsOfTheScaledValues) {
  for (const Pair& pair : kPairs) {
    const auto x = random_row(100, 4);  // three groups and a short one
    std::vector<uint8_t> codes(x.size()), scales(mx_groups(x.size()));
    mx_quantize(pair.rule, pair.element, x.data(), codes.data(), scales.data(), x.size());
    std::vector<float> values(x.size());
    mx_dequantize(pair.element, codes.data(), scales.data(), values.data(), x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double unit = std::ldexp(1.0, scales[i / 32] - 127);
      const auto scaled = static_cast<float>(x[i] / unit);
      const float nearest =
          pair.element == MxElement::e4m3 ? e4m3_round(scaled) : e2m1_round(scaled);
      EXPECT_EQ(values[i], nearest * unit);
    }
  }
}

TEST(Mx, RoundGivesTheDequantizedValuesOverTheRowsTopScale) {
  for (const Pair& pair : kPairs) {
    const auto x = random_row(300, 6);
    std::vector<uint8_t> codes(x.size()), scales(mx_groups(x.size()));
    mx_quantize(pair.rule, pair.element, x.data(), codes.data(), scales.data(), x.size());
    std::vector<float> wanted(x.size()), values(x.size());
    mx_dequantize(pair.element, codes.data(), scales.data(), wanted.data(), x.size());
    const float scale = mx_round(pair.rule, pair.element, x.data(), values.data(), x.size());
    const uint8_t top = mx_top(scales.data(), scales.size());
    std::vector<uint16_t> halves(x.size());
    mx_decode_bf16(pair.element, codes.data(), scales.data(), top, halves.data(), x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(values[i] * scale, wanted[i]);
      EXPECT_EQ(bf16_decode(halves[i]), values[i]) << "exact in bf16";
    }
  }
}

TEST(Mx, GroupsThatAreNotFiniteBecomeNanAndLeaveTheOthersAlone) {
  for (const Pair& pair : kPairs) {
    for (const float bad : {NAN, INFINITY}) {
      auto x = random_row(64, 9);
      x[40] = bad;
      std::vector<float> values(64);
      const float scale = mx_round(pair.rule, pair.element, x.data(), values.data(), 64);
      EXPECT_TRUE(std::isfinite(scale));
      for (int i = 0; i < 32; ++i) EXPECT_TRUE(std::isfinite(values[i]));
      for (int i = 32; i < 64; ++i) EXPECT_TRUE(std::isnan(values[i]));
    }
  }
}

TEST(Mx, KeepsTheSignOfZeroAndTheSmallestScale) {
  const float x[] = {-0.0f, 0.0f, -1e-45f};
  uint8_t codes[3], scale = 9;
  mx_quantize(MxRule::ocp, MxElement::e2m1, x, codes, &scale, 3);
  EXPECT_EQ(scale, 0);
  EXPECT_EQ(codes[0], 8);
  EXPECT_EQ(codes[1], 0);
  EXPECT_EQ(codes[2] & 8, 8);
  const uint8_t one = 2;  // the e2m1 code of 1
  float value = 0;
  mx_dequantize(MxElement::e2m1, &one, &scale, &value, 1);
  EXPECT_EQ(value, 0x1p-127f) << "byte 0 is a float32 subnormal, not flushed";
}

TEST(MxKernels, EveryLevelComputesTheSameBits) {
  for (const Pair& pair : kPairs) {
    for (const size_t n : {0u, 1u, 31u, 32u, 33u, 63u, 64u, 65u, 300u}) {
      const auto x = random_row(n, 30 + static_cast<uint32_t>(n));
      const size_t groups = mx_groups(n);
      std::vector<uint8_t> codes0(n), scales0(groups);
      std::vector<float> values0(n), rounded0(n);
      std::vector<uint16_t> halves0(n);
      mx_quantize(pair.rule, pair.element, x.data(), codes0.data(), scales0.data(), n, Cpu::scalar);
      const uint8_t top = mx_top(scales0.data(), groups);
      mx_dequantize(pair.element, codes0.data(), scales0.data(), values0.data(), n, Cpu::scalar);
      mx_decode_bf16(pair.element, codes0.data(), scales0.data(), top, halves0.data(), n,
                     Cpu::scalar);
      mx_round(pair.rule, pair.element, x.data(), rounded0.data(), n, Cpu::scalar);
      for (const Cpu cpu : testing::levels()) {
        std::vector<uint8_t> codes(n), scales(groups);
        std::vector<float> values(n), rounded(n);
        std::vector<uint16_t> halves(n);
        mx_quantize(pair.rule, pair.element, x.data(), codes.data(), scales.data(), n, cpu);
        mx_dequantize(pair.element, codes.data(), scales.data(), values.data(), n, cpu);
        mx_decode_bf16(pair.element, codes.data(), scales.data(), top, halves.data(), n, cpu);
        mx_round(pair.rule, pair.element, x.data(), rounded.data(), n, cpu);
        EXPECT_EQ(codes, codes0);
        EXPECT_EQ(scales, scales0);
        EXPECT_EQ(values, values0);
        EXPECT_EQ(halves, halves0);
        EXPECT_EQ(rounded, rounded0);
      }
    }
  }
}

// ---- dual scale --------------------------------------------------------------------------------

std::vector<float> bf16_row(size_t n, uint32_t seed) {
  auto out = random_row(n, seed);
  for (float& value : out) value = bf16_decode(bf16_encode(value));
  return out;
}

TEST(Dual, InnerScaleNeverExceedsOne) {
  for (uint32_t seed = 1; seed < 40; ++seed) {
    const auto x = bf16_row(kDualGroup, seed);
    std::vector<uint8_t> codes(kDualGroup), scales(16);
    float outer = 0;
    dual_quantize(DualDtype::bf16, x.data(), codes.data(), scales.data(), &outer, kDualGroup);
    for (const uint8_t b : scales) EXPECT_LE(b, 127);
  }
}

TEST(Dual, RoundGivesTheDequantizedValues) {
  for (const DualDtype dtype : {DualDtype::bf16, DualDtype::f16}) {
    for (const Cpu cpu : testing::levels()) {
      const auto x = bf16_row(2 * kDualGroup, 7);
      std::vector<uint8_t> codes(x.size()), scales(x.size() / 32);
      std::vector<float> outer(2), outer_again(2), wanted(x.size()), values(x.size());
      dual_quantize(dtype, x.data(), codes.data(), scales.data(), outer.data(), x.size(), cpu);
      dual_dequantize(codes.data(), scales.data(), outer.data(), wanted.data(), x.size(), cpu);
      dual_round(dtype, x.data(), values.data(), outer_again.data(), x.size(), cpu);
      EXPECT_EQ(outer, outer_again);
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(values[i] * outer[i / kDualGroup], wanted[i]);
        EXPECT_EQ(bf16_decode(bf16_encode(values[i])), values[i]) << "exact in bf16";
      }
    }
  }
}

TEST(Dual, ZeroAndTinyGroupsHaveOuterScaleZeroAndOthersNan) {
  std::vector<float> x(kDualGroup, -0.0f);
  x[3] = 1e-38f;
  std::vector<uint8_t> codes(kDualGroup), scales(16);
  float outer = 9;
  dual_quantize(DualDtype::bf16, x.data(), codes.data(), scales.data(), &outer, kDualGroup);
  EXPECT_EQ(outer, 0.0f);
  for (const uint8_t code : codes) EXPECT_EQ(code & 7, 0);
  x[5] = INFINITY;
  std::vector<float> values(kDualGroup);
  dual_round(DualDtype::bf16, x.data(), values.data(), &outer, kDualGroup);
  EXPECT_TRUE(std::isnan(outer));
}

}  // namespace
}  // namespace loadstone::common
