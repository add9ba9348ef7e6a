#include "common/ggml/quantize.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/ggml/dequantize.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::ggml {
namespace {

using common::testing::Random;

std::vector<uint8_t> encode(Type type, const std::vector<float>& values) {
  const TypeInfo* info = find_type(type);
  const uint64_t blocks = values.size() / info->elems;
  std::vector<uint8_t> out(blocks * info->nbytes);
  quantizer(type)(values.data(), blocks, out.data());
  return out;
}

std::vector<float> decode(Type type, const std::vector<uint8_t>& bytes) {
  const TypeInfo* info = find_type(type);
  const uint64_t blocks = bytes.size() / info->nbytes;
  std::vector<float> out(blocks * info->elems);
  dequantizer(type)(bytes.data(), blocks, out.data());
  return out;
}

constexpr Type kEncoded[] = {kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kTQ1_0, kTQ2_0, kMXFP4};

/// Largest error as a share of the block's largest magnitude: half a step, a whole one at the end
/// opposite to the largest value of Q4_0 and Q5_0, and the rounding of scale and minimum to
/// float16.
double worst_error(Type type) {
  constexpr double kHalf = 0x1p-11 * 2;
  switch (type) {
    case kQ8_0:
      return 0.5 / 127 + kHalf;
    case kQ4_0:
      return 1.0 / 8 + kHalf;
    case kQ5_0:
      return 1.0 / 16 + kHalf;
    case kQ4_1:
      return 2 * 0.5 / 15 + 2 * kHalf;
    case kQ5_1:
      return 2 * 0.5 / 31 + 2 * kHalf;
    case kMXFP4:
      return 0.25;  // 8·2^e is cut to 6·2^e
    default:
      return 0.5 + kHalf;
  }
}

TEST(GgmlQuantize, ErrorsStayWithinTheFormatsStep) {
  Random random(5);
  std::vector<float> values(256 * 40);
  for (float& value : values) value = random.uniform() * 3;
  for (const Type type : kEncoded) {
    const std::vector<float> back = decode(type, encode(type, values));
    const uint32_t elems = find_type(type)->elems;
    for (size_t begin = 0; begin < values.size(); begin += elems) {
      float amax = 0;
      for (size_t i = begin; i < begin + elems; ++i) amax = std::max(amax, std::abs(values[i]));
      for (size_t i = begin; i < begin + elems; ++i) {
        ASSERT_LE(std::abs(back[i] - values[i]), worst_error(type) * amax)
            << find_type(type)->name << " value " << i;
      }
    }
  }
}

TEST(GgmlQuantize, ZeroBlocksGiveZeros) {
  const std::vector<float> zeros(512);
  for (const Type type : kEncoded) {
    for (const float value : decode(type, encode(type, zeros))) ASSERT_EQ(value, 0.0f);
  }
}

TEST(GgmlQuantize, ScalesTooSmallToInvertGiveZeros) {
  const std::vector<float> tiny(256, 0x1p-149f);
  for (const Type type : kEncoded) {
    if (type == kMXFP4) continue;  // its scale has exponents enough
    for (const float value : decode(type, encode(type, tiny))) ASSERT_EQ(value, 0.0f);
  }
}

TEST(GgmlQuantize, Q4ScaleKeepsTheSignOfTheLargestValue) {
  std::vector<float> values(32, 0.5f);
  values[3] = 4.0f;
  const auto bytes = encode(kQ4_0, values);
  EXPECT_EQ(bytes[1] & 0x80, 0x80);  // d = 4/-8
  EXPECT_EQ(decode(kQ4_0, bytes)[3], 4.0f);
}

TEST(GgmlQuantize, Q4RoundsProductAndSumEach) {
  std::vector<float> values(32, 0.0f);
  values[0] = -0x1.ep-2f;
  values[1] = -0x1.0ep-2f;  // a fused multiply-add gives just under 4
  EXPECT_EQ(encode(kQ4_0, values)[3] & 15, 4);
}

TEST(GgmlQuantize, Q8RoundsHalfAwayFromZero) {
  std::vector<float> values(32, 0.0f);
  values[0] = 127.0f;
  values[1] = 2.5f;
  values[2] = -2.5f;
  const auto bytes = encode(kQ8_0, values);
  EXPECT_EQ(static_cast<int8_t>(bytes[3]), 3);
  EXPECT_EQ(static_cast<int8_t>(bytes[4]), -3);
}

TEST(GgmlQuantize, TheFirstOfEqualMxfp4LevelsWins) {
  std::vector<float> values(32, 0.0f);
  values[0] = 6.0f;   // e = floor(log2 6) - 2: scale 1 over the doubled levels' half
  values[1] = 0.25f;  // midway between 0 and 0.5
  values[2] = -0.25f;
  const auto back = decode(kMXFP4, encode(kMXFP4, values));
  EXPECT_EQ(back[0], 6.0f);
  EXPECT_EQ(back[1], 0.0f);
  EXPECT_EQ(back[2], 0.0f);
}

TEST(GgmlQuantize, OtherTypesHaveNoEncoder) {
  for (const Type type : {kQ2_K, kQ4_K, kIQ4_NL, kNVFP4, kQ8_1}) {
    EXPECT_EQ(quantizer(type), nullptr);
  }
}

}  // namespace
}  // namespace loadstone::ggml
