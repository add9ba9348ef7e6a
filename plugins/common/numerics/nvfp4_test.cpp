#include "common/numerics/nvfp4.hpp"

#include <cmath>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

using testing::same_float;

TEST(Nvfp4, OrdersOfScalesDifferAndEachIsItsDefinition) {
  testing::Random random(3);
  for (const Cpu cpu : testing::levels()) {
    for (const size_t group : {16u, 32u}) {
      constexpr size_t kCount = 80;
      uint8_t packed[kCount / 2], scales[kCount / 16];
      for (uint8_t& byte : packed) byte = static_cast<uint8_t>(random.bits());
      for (uint8_t& byte : scales) byte = static_cast<uint8_t>(random.bits() % 0x7f);
      const float global = 0.0123f + std::abs(random.uniform());
      float product[kCount], quotient[kCount], inverse[kCount];
      nvfp4_dequantize(Nvfp4Order::multiplied, packed, scales, global, product, kCount, group, cpu);
      nvfp4_dequantize(Nvfp4Order::divided, packed, scales, global, quotient, kCount, group, cpu);
      nvfp4_dequantize(Nvfp4Order::reciprocal, packed, scales, global, inverse, kCount, group, cpu);
      uint16_t exact[kCount];
      nvfp4_decode_bf16(packed, scales, exact, kCount, group, cpu);
      for (size_t i = 0; i < kCount; ++i) {
        const float q = e2m1_decode(packed[i / 2] >> (i % 2 * 4) & 15);
        const float sc = e4m3_decode(scales[i / group]);
        EXPECT_TRUE(same_float(product[i], q * (sc * global)));
        EXPECT_TRUE(same_float(quotient[i], q * (sc / global)));
        EXPECT_TRUE(same_float(inverse[i], (q * (1.0f / global)) * sc));
        EXPECT_TRUE(same_float(testing::from_bits(uint32_t{exact[i]} << 16), q * sc));
      }
    }
  }
}

TEST(Nvfp4, ActivationValuesAreTheirCodesTimesTheirScales) {
  testing::Random random(9);
  for (const Cpu cpu : testing::levels()) {
    float x[40], values[40];
    for (float& value : x) value = random.uniform() * 30;
    std::fill(x + 16, x + 32, 0.0f);
    uint8_t codes[40], scales[3];
    nvfp4_token(x, 37.0f, codes, scales, 40, cpu);
    nvfp4_token_values(x, 37.0f, values, 40, cpu);
    EXPECT_EQ(scales[1], 0);
    for (size_t i = 0; i < 40; ++i) {
      EXPECT_EQ(values[i], e2m1_decode(codes[i]) * e4m3_decode(scales[i / 16]));
    }
  }
}

TEST(Nvfp4, GroupsThatAreNotFiniteGiveNoSilentNumber) {
  for (const Cpu cpu : testing::levels()) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      float x[32] = {}, values[32];
      x[3] = bad;
      x[20] = 1;
      nvfp4_token_values(x, 1.0f, values, 32, cpu);
      for (size_t i = 0; i < 16; ++i) EXPECT_TRUE(std::isnan(values[i]));
      for (size_t i = 16; i < 32; ++i) EXPECT_TRUE(std::isfinite(values[i]));
    }
  }
}

}  // namespace
}  // namespace loadstone::common
