// INT8 scales and rows against numerics.json.
#include "common/numerics/int8.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

constexpr const char* kFile = "oracles/numerics.json";
const testing::Json& oracle() {
  static const testing::Json json = testing::shared_json(kFile);
  return json;
}

TEST(Int8Oracle, Scales) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  const testing::Json& scales = oracle()["scales"];
  const auto amax = testing::floats_from_bits(scales["amax"]);
  for (size_t i = 0; i < amax.size(); ++i) {
    if (!scales["int8_scale"][i].is_null()) {
      EXPECT_EQ(testing::to_bits(int8_scale(amax[i])), scales["int8_scale"][i].get<uint32_t>());
    }
    if (!scales["int8_inv"][i].is_null()) {
      EXPECT_EQ(testing::to_bits(int8_factor(amax[i])), scales["int8_inv"][i].get<uint32_t>());
    }
  }
}

TEST(Int8Oracle, Rows) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  ASSERT_FALSE(oracle()["rows"].empty());
  for (const Cpu cpu : testing::levels()) {
    for (const auto& [name, row] : oracle()["rows"].items()) {
      SCOPED_TRACE(name);
      const auto x = testing::floats_from_bits(row["x"]);
      std::vector<int8_t> codes(x.size());
      if (row.contains("int8_token")) {
        const float scale = int8_quantize_row(x.data(), codes.data(), x.size(), cpu);
        EXPECT_EQ(std::vector<int>(codes.begin(), codes.end()),
                  row["int8_token"][0].get<std::vector<int>>());
        EXPECT_EQ(testing::to_bits(scale), row["int8_token"][1][0].get<uint32_t>());
      }
      if (row.contains("int8_static_0p05_m3")) {
        int8_quantize_fixed(x.data(), 0.05f, -3, codes.data(), x.size(), cpu);
        EXPECT_EQ(std::vector<int>(codes.begin(), codes.end()),
                  row["int8_static_0p05_m3"].get<std::vector<int>>());
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::common
