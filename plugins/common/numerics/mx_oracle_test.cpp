// MX and dual-scale numerics against numerics.json.
#include "common/numerics/dual.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/mx.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

constexpr const char* kFile = "oracles/numerics.json";
const testing::Json& oracle() {
  static const testing::Json json = testing::shared_json(kFile);
  return json;
}

struct Pair {
  const char* name;
  MxRule rule;
  MxElement element;
};
constexpr Pair kPairs[] = {
    {"mx_e4m3_ocp", MxRule::ocp, MxElement::e4m3},
    {"mx_e4m3_rceil", MxRule::rceil, MxElement::e4m3},
    {"mx_e2m1_ocp", MxRule::ocp, MxElement::e2m1},
    {"mx_e2m1_uos", MxRule::uos, MxElement::e2m1},
};

TEST(MxOracle, ScaleBytes) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  const testing::Json& scales = oracle()["scales"];
  const auto amax = testing::floats_from_bits(scales["amax"]);
  for (const Pair& pair : kPairs) {
    const testing::Json& wanted = scales[std::string(pair.name) + "_byte"];
    ASSERT_EQ(wanted.size(), amax.size()) << pair.name;
    for (size_t i = 0; i < amax.size(); ++i) {
      if (wanted[i].is_null()) continue;
      EXPECT_EQ(mx_scale_byte(pair.rule, pair.element, amax[i]), wanted[i].get<int>())
          << pair.name << " " << amax[i];
    }
  }
  for (size_t i = 0; i < amax.size(); ++i) {
    if (scales["dual_level0"][i].is_null()) continue;
    EXPECT_EQ(testing::to_bits(dual_scale(amax[i])), scales["dual_level0"][i].get<uint32_t>());
  }
}

TEST(MxOracle, Rows) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  ASSERT_FALSE(oracle()["rows"].empty());
  for (const Cpu cpu : testing::levels()) {
    for (const auto& [name, row] : oracle()["rows"].items()) {
      const auto x = testing::floats_from_bits(row["x"]);
      for (const Pair& pair : kPairs) {
        if (!row.contains(pair.name)) continue;
        SCOPED_TRACE(name + " " + pair.name);
        std::vector<uint8_t> codes(x.size()), scales(mx_groups(x.size()));
        mx_quantize(pair.rule, pair.element, x.data(), codes.data(), scales.data(), x.size(), cpu);
        EXPECT_EQ(std::vector<int>(codes.begin(), codes.end()),
                  row[pair.name][0].get<std::vector<int>>());
        EXPECT_EQ(std::vector<int>(scales.begin(), scales.end()),
                  row[pair.name][1].get<std::vector<int>>());
      }
    }
  }
}

TEST(MxOracle, DualScaleRows) {
  LOADSTONE_NEED_ORACLE(oracle(), kFile);
  constexpr const char* kName = "dualscale_512_zero_padded";
  int seen = 0;
  for (const Cpu cpu : testing::levels()) {
    for (const auto& [name, row] : oracle()["rows"].items()) {
      if (!row.contains(kName)) continue;
      SCOPED_TRACE(name);
      auto x = testing::floats_from_bits(row["x"]);
      const size_t shown = x.size();
      x.resize(kDualGroup, 0.0f);
      std::vector<uint8_t> codes(kDualGroup), scales(kDualGroup / kMxGroup);
      float outer = 0;
      dual_quantize(DualDtype::bf16, x.data(), codes.data(), scales.data(), &outer, kDualGroup,
                    cpu);
      const auto wanted = row[kName][0].get<std::vector<int>>();
      EXPECT_EQ(std::vector<int>(codes.begin(),
                                 codes.begin() + static_cast<long>(std::min(shown, wanted.size()))),
                std::vector<int>(wanted.begin(), wanted.begin() + static_cast<long>(std::min(
                                                                      shown, wanted.size()))));
      EXPECT_EQ(scales[0], row[kName][1][0].get<int>());
      EXPECT_EQ(testing::to_bits(outer), row[kName][2][0].get<uint32_t>());
      ++seen;
    }
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace loadstone::common
