// FP8 scales and rows against numerics.json.
#include <cmath>

#include "common/codecs/e4m3.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

constexpr const char* kFile = "oracles/numerics.json";
const testing::Json& oracle() {
  static const testing::Json json = testing::shared_json(kFile);
  return json;
}

TEST(Fp8Oracle, Scales) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  const testing::Json& scales = oracle()["scales"];
  const auto amax = testing::floats_from_bits(scales["amax"]);
  const float two = 2.0f;
  const auto expect = [&](const char* name, size_t i, float found) {
    EXPECT_EQ(testing::to_bits(found), scales[name][i].get<uint32_t>()) << name << " " << amax[i];
  };
  for (size_t i = 0; i < amax.size(); ++i) {
    // The plain quotient is the file's; ours is 1 where that is 0.
    if (amax[i] / kFp8Max != 0.0f) expect("fp8_scale", i, fp8_tensor_scale(amax[i]));
    expect("fp8_token_scale", i, fp8_row_scale(amax[i]));
    expect("fp8_token_scale", i, fp8_token_scale(amax[i], nullptr));
    expect("fp8_token_scale_ub2", i, fp8_token_scale(amax[i], &two));
    expect("fp8_block_scale", i, fp8_block_scale(amax[i]));
    expect("fp8_group_scale", i, fp8_group_scale(amax[i]));
  }
}

std::vector<uint32_t> codes_of(const std::vector<float>& values) {
  std::vector<uint32_t> out;
  for (const float value : values) out.push_back(e4m3_encode(value));
  return out;
}

TEST(Fp8Oracle, Rows) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  ASSERT_FALSE(oracle()["rows"].empty());
  for (const Cpu cpu : testing::levels()) {
    for (const auto& [name, row] : oracle()["rows"].items()) {
      SCOPED_TRACE(name);
      const auto x = testing::floats_from_bits(row["x"]);
      const size_t n = x.size();
      std::vector<float> values(n);
      const auto expect = [&](const char* method, float scale) {
        if (!row.contains(method)) return;
        EXPECT_EQ(codes_of(values), row[method][0].get<std::vector<uint32_t>>()) << method;
        EXPECT_EQ(testing::to_bits(scale), row[method][1][0].get<uint32_t>()) << method;
      };
      expect("fp8_token", fp8_token(x.data(), nullptr, values.data(), n, cpu));
      expect("fp8_tensor",
             fp8_tensor_row(x.data(), max_magnitude(x.data(), n, cpu), values.data(), n, cpu));
      float scale = 0;
      fp8_groups(x.data(), n, values.data(), &scale, n, cpu);
      expect("fp8_group32", scale);
      EXPECT_EQ(fp8_fixed_row(x.data(), 0.01f, values.data(), n, cpu), 0.01f);
      if (row.contains("fp8_static_0p01")) {
        EXPECT_EQ(codes_of(values), row["fp8_static_0p01"].get<std::vector<uint32_t>>());
      }

      std::vector<uint8_t> codes(n);
      const float row_scale = fp8_quantize_row(x.data(), codes.data(), n, cpu);
      if (row.contains("fp8_token")) {
        EXPECT_EQ(std::vector<uint32_t>(codes.begin(), codes.end()),
                  row["fp8_token"][0].get<std::vector<uint32_t>>());
        EXPECT_EQ(testing::to_bits(row_scale), row["fp8_token"][1][0].get<uint32_t>());
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::common
