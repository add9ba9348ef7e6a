#include "load/cast.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace loadstone::load {

namespace {

template <typename To, typename From>
To convert(From value, DType from, DType to, bool* fits = nullptr) {
  To out{};
  bool ok = cast(reinterpret_cast<const std::byte*>(&value), from,
                 reinterpret_cast<std::byte*>(&out), to, 1);
  if (fits != nullptr) *fits = ok;
  return out;
}

TEST(Cast, WidensAllBf16AndF16Exactly) {
  for (uint32_t code = 0; code < 65536; ++code) {
    auto bits = static_cast<uint16_t>(code);
    auto wide = convert<uint32_t>(bits, DType::BF16, DType::F32);
    EXPECT_EQ(wide, code << 16);
    EXPECT_EQ(
        convert<uint16_t>(convert<double>(bits, DType::BF16, DType::F64), DType::F64, DType::BF16),
        std::isnan(std::bit_cast<float>(wide)) ? (bits & 0x8000) | 0x7fc0 : bits);
    auto half = convert<float>(bits, DType::F16, DType::F32);
    if (std::isnan(half)) continue;
    EXPECT_EQ(convert<uint16_t>(half, DType::F32, DType::F16), bits);
  }
}

TEST(Cast, NarrowsToNearestTiesToEven) {
  for (uint32_t code = 0x3f80; code < 0x3f90; ++code) {
    uint32_t low = code << 16, middle = low | 0x8000;
    auto even = static_cast<uint16_t>(code + (code & 1));
    auto f32_to_bf16 = [](uint32_t bits) {
      return convert<uint16_t>(bits, DType::F32, DType::BF16);
    };
    EXPECT_EQ(f32_to_bf16(middle), even);
    EXPECT_EQ(f32_to_bf16(middle - 1), code);
    EXPECT_EQ(f32_to_bf16(middle + 1), code + 1);
  }
}

TEST(Cast, DoublesRoundOnce) {
  // Just above the midpoint of two bf16 values, by less than a float can show.
  double value = std::bit_cast<float>(0x3f808000u) * (1 + 0x1p-40);
  EXPECT_EQ(convert<uint16_t>(value, DType::F64, DType::BF16), 0x3f81);
  value = std::bit_cast<float>(0x3f818000u) * (1 - 0x1p-40);
  EXPECT_EQ(convert<uint16_t>(value, DType::F64, DType::BF16), 0x3f81);
}

TEST(Cast, RangeIsWatched) {
  bool fits = true;
  convert<uint16_t>(70000.0f, DType::F32, DType::F16, &fits);
  EXPECT_FALSE(fits);
  convert<uint16_t>(std::numeric_limits<float>::max(), DType::F32, DType::BF16, &fits);
  EXPECT_FALSE(fits);
  convert<uint16_t>(std::numeric_limits<float>::infinity(), DType::F32, DType::F16, &fits);
  EXPECT_TRUE(fits);
  convert<uint16_t>(65504.0f, DType::F32, DType::F16, &fits);
  EXPECT_TRUE(fits);
}

TEST(Cast, Fp8CodesDecode) {
  auto e4m3 = [](uint8_t code) { return convert<float>(code, DType::F8_E4M3, DType::F32); };
  auto e5m2 = [](uint8_t code) { return convert<float>(code, DType::F8_E5M2, DType::F32); };
  EXPECT_EQ(e4m3(0x7e), 448.0f);
  EXPECT_EQ(e4m3(0x01), 0x1p-9f);
  EXPECT_EQ(e4m3(0x38), 1.0f);
  EXPECT_TRUE(std::isnan(e4m3(0x7f)));
  EXPECT_EQ(e5m2(0x7b), 57344.0f);
  EXPECT_EQ(e5m2(0x01), 0x1p-16f);
  EXPECT_TRUE(std::isinf(e5m2(0x7c)));
  EXPECT_TRUE(std::isnan(e5m2(0x7d)));
  EXPECT_EQ(e5m2(0xbc), -1.0f);
}

TEST(Cast, OtherDtypesAreRefused) {
  EXPECT_FALSE(can_cast_from(DType::F4));
  uint8_t code = 0;
  bool fits = true;
  convert<float>(code, DType::U8, DType::F32, &fits);
  EXPECT_FALSE(fits);
}

}  // namespace
}  // namespace loadstone::load
