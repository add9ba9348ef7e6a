// Codecs against numerics.json: decoded tables and rounding cases of independent implementations.
#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e5m2.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/codecs/half.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

constexpr const char* kFile = "oracles/numerics.json";
const testing::Json& oracle() {
  static const testing::Json json = testing::shared_json(kFile);
  return json;
}

template <typename Decode>
void expect_table(const char* name, Decode decode) {
  const testing::Json& table = oracle()[name];
  ASSERT_FALSE(table.empty()) << name;
  for (size_t code = 0; code < table.size(); ++code) {
    const float value = decode(static_cast<uint8_t>(code));
    if (table[code].is_null()) {
      EXPECT_TRUE(value != value) << name << " " << code;
    } else {
      EXPECT_EQ(testing::to_bits(value), table[code].get<uint32_t>()) << name << " " << code;
    }
  }
}

TEST(CodecsOracle, DecodedTables) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  expect_table("e4m3fn", [](uint8_t c) { return e4m3_decode(c); });
  expect_table("e5m2", [](uint8_t c) { return e5m2_decode(c); });
  expect_table("e2m1", [](uint8_t c) { return e2m1_decode(c); });
  expect_table("e8m0", [](uint8_t c) { return e8m0_decode(c); });
}

template <typename Encode, typename IsNan>
void expect_rounding(const char* name, Encode encode, IsNan is_nan) {
  const testing::Json& rounding = oracle()["rounding"];
  const auto x = testing::floats_from_bits(rounding["x"]);
  ASSERT_EQ(x.size(), rounding[name].size());
  for (size_t i = 0; i < x.size(); ++i) {
    const auto wanted = rounding[name][i];
    if (wanted.is_null()) continue;  // outside the format
    const uint32_t code = encode(x[i]);
    if (x[i] != x[i]) {
      EXPECT_TRUE(is_nan(code)) << name << " of NaN: " << code;
    } else {
      EXPECT_EQ(code, wanted.get<uint32_t>()) << name << " of " << x[i];
    }
  }
}

TEST(CodecsOracle, RoundingCases) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  expect_rounding(
      "e4m3_sat", [](float x) { return e4m3_encode(x); },
      [](uint32_t c) { return (c & 0x7f) == 0x7f; });
  expect_rounding(
      "e5m2_sat", [](float x) { return e5m2_encode(x); },
      [](uint32_t c) { return (c & 0x7f) > 0x7c; });
  expect_rounding(
      "e2m1", [](float x) { return e2m1_encode(x); }, [](uint32_t) { return true; });
  expect_rounding(
      "bf16", [](float x) { return bf16_encode(x); },
      [](uint32_t c) { return (c & 0x7fff) > 0x7f80; });
  expect_rounding(
      "f16", [](float x) { return f16_encode(x); },
      [](uint32_t c) { return (c & 0x7fff) > 0x7c00; });
}

}  // namespace
}  // namespace loadstone::common
