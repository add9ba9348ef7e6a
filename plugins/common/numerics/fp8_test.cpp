#include "common/numerics/fp8.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/numerics/floats.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

std::vector<float> random_row(size_t n, uint32_t seed, float top) {
  testing::Random random(seed);
  std::vector<float> out(n);
  for (float& value : out) value = random.uniform() * top;
  return out;
}

TEST(Fp8, MinimumScaleIsTheStatedConstant) {
  EXPECT_EQ(testing::to_bits(kFp8MinScale), 0x36924925u);
  EXPECT_EQ(fp8_row_scale(0.0f), kFp8MinScale);
  EXPECT_EQ(fp8_tensor_scale(0.0f), 1.0f);
  EXPECT_EQ(fp8_tensor_scale(448.0f), 1.0f);
}

TEST(Fp8, UpperBoundCutsTheTokenScale) {
  const float bound = 2.0f;
  EXPECT_EQ(fp8_token_scale(8.0f, &bound), 2.0f / 448.0f);
  EXPECT_EQ(fp8_token_scale(1.0f, &bound), 1.0f / 448.0f);
}

TEST(Fp8, RowDividesAndTensorMultipliesByTheReciprocal) {
  testing::Random random(5);
  int differ = 0;
  for (int i = 0; i < 2000; ++i) {
    // The largest value, and values whose quotient by the scale lies at or beside a tie of codes.
    const float amax = 1.5f + random.uniform();
    std::vector<float> x = {amax};
    for (float tie = 17.0f; tie < 32.0f; tie += 2.0f) x.push_back(amax * tie / 448.0f);
    std::vector<uint8_t> row(x.size()), tensor(x.size());
    const float scale = fp8_quantize_row(x.data(), row.data(), x.size());
    fp8_quantize_tensor(x.data(), fp8_tensor_scale(amax), amax, tensor.data(), x.size());
    for (size_t k = 0; k < x.size(); ++k) {
      ASSERT_EQ(row[k], e4m3_encode(x[k] / scale));
      ASSERT_EQ(tensor[k], e4m3_encode(x[k] * (1.0f / scale)));
      differ += row[k] != tensor[k];
    }
  }
  EXPECT_GT(differ, 0) << "these values can't tell the two rules apart";
}

TEST(Fp8, BlockSharesOneScaleAndKeepsItsStride) {
  const auto w = random_row(6 * 5, 9, 1.0f);
  std::vector<uint8_t> codes(6 * 8, 0x55);
  const float scale = fp8_quantize_block(w.data(), 6, 5, codes.data(), 8);
  EXPECT_EQ(scale, fp8_block_scale(max_magnitude(w.data(), w.size())));
  for (size_t r = 0; r < 6; ++r) {
    for (size_t c = 0; c < 5; ++c) {
      EXPECT_EQ(codes[r * 8 + c], e4m3_encode(w[r * 5 + c] * (1.0f / scale)));
    }
    EXPECT_EQ(codes[r * 8 + 5], 0x55);
  }
}

TEST(Fp8, AllZeroTensorHasScaleOneAndCodesZeroWhateverTheSigns) {
  const std::vector<float> x = {0.0f, -0.0f, 0.0f};
  std::vector<uint8_t> codes(3, 9);
  fp8_quantize_tensor(x.data(), 1.0f, 0.0f, codes.data(), 3);
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 0, 0}));
  std::vector<float> values(3, 9.0f);
  EXPECT_EQ(fp8_tensor_row(x.data(), 0.0f, values.data(), 3), 1.0f);
  for (const float value : values) EXPECT_EQ(testing::to_bits(value), 0u);
}

TEST(Fp8, NonFiniteActivationsGiveNanScales) {
  const float bound = 1.0f;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const std::vector<float> x = {1.0f, bad, 2.0f, 3.0f};
    std::vector<float> values(4), scales(2);
    EXPECT_TRUE(std::isnan(fp8_token(x.data(), nullptr, values.data(), 4)));
    EXPECT_TRUE(std::isnan(fp8_token(x.data(), &bound, values.data(), 4)));
    EXPECT_TRUE(std::isnan(fp8_fixed_row(x.data(), 0.5f, values.data(), 4)));
    EXPECT_TRUE(std::isnan(fp8_tensor_row(x.data(), max_magnitude(x.data(), 4), values.data(), 4)));
    fp8_groups(x.data(), 2, values.data(), scales.data(), 4);
    EXPECT_TRUE(std::isnan(scales[0]));
    EXPECT_EQ(scales[1], 3.0f / 448.0f);
  }
}

TEST(Fp8, RescalePassesThroughFloat16) {
  const std::vector<uint8_t> codes = {0x00, 0x80, 0x01, 0x38, 0x7e, 0xfe, 0x55};
  std::vector<uint8_t> out(codes.size());
  fp8_rescale(codes.data(), 1e-6f, 2e-6f, out.data(), codes.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    const float half = f16_decode(f16_encode(e4m3_decode(codes[i]) * 1e-6f));
    EXPECT_EQ(out[i], e4m3_encode(half * (1.0f / 2e-6f)));
  }
  EXPECT_EQ(out[2], 0) << "2^-9·1e-6 vanishes in float16";
}

TEST(Fp8Kernels, EveryLevelComputesTheSameBits) {
  for (const size_t n : {0u, 1u, 7u, 31u, 32u, 33u, 63u, 64u, 65u, 129u, 1000u}) {
    const auto x = random_row(n, 21 + static_cast<uint32_t>(n), 700.0f);
    std::vector<uint8_t> codes0(n);
    std::vector<float> token0(n), fixed0(n), groups0(n), scales0(n + 1);
    const float row0 = fp8_quantize_row(x.data(), codes0.data(), n, Cpu::scalar);
    const float s0 = fp8_token(x.data(), nullptr, token0.data(), n, Cpu::scalar);
    fp8_fixed_row(x.data(), 0.3f, fixed0.data(), n, Cpu::scalar);
    fp8_groups(x.data(), 32, groups0.data(), scales0.data(), n, Cpu::scalar);
    for (const Cpu cpu : testing::levels()) {
      std::vector<uint8_t> codes(n);
      std::vector<float> token(n), fixed(n), groups(n), scales(n + 1);
      EXPECT_EQ(fp8_quantize_row(x.data(), codes.data(), n, cpu), row0);
      EXPECT_EQ(fp8_token(x.data(), nullptr, token.data(), n, cpu), s0);
      fp8_fixed_row(x.data(), 0.3f, fixed.data(), n, cpu);
      fp8_groups(x.data(), 32, groups.data(), scales.data(), n, cpu);
      EXPECT_EQ(codes, codes0);
      EXPECT_TRUE(n == 0 || std::memcmp(token.data(), token0.data(), n * 4) == 0);
      EXPECT_TRUE(n == 0 || std::memcmp(fixed.data(), fixed0.data(), n * 4) == 0);
      EXPECT_TRUE(n == 0 || std::memcmp(groups.data(), groups0.data(), n * 4) == 0);
      EXPECT_EQ(scales, scales0);
    }
  }
}

}  // namespace
}  // namespace loadstone::common
