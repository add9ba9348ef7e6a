#include "common/ggml/check.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/ggml/dequantize.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::ggml {
namespace {

/// The rule by its effect: a bad block decodes to some value that isn't finite.
TEST(GgmlCheck, FindsExactlyTheBlocksThatDecodeToNonFiniteValues) {
  common::testing::Random random(11);
  for (uint32_t id = 0; id < kTypeEnd; ++id) {
    const TypeInfo* info = find_type(id);
    if (info == nullptr || !info->decodes) continue;
    int bad = 0;
    for (int round = 0; round < 3000; ++round) {
      std::vector<uint8_t> block(info->nbytes);
      for (uint8_t& byte : block) byte = static_cast<uint8_t>(random.bits() >> 9);
      std::vector<float> out(info->elems);
      dequantizer(info->type, Stores::cached, common::Cpu::scalar)(block.data(), 1, out.data());
      bool finite = true;
      for (const float value : out) finite = finite && std::isfinite(value);
      ASSERT_EQ(first_bad_scale(info->type, block.data(), 1), finite ? 1u : 0u) << info->name;
      bad += !finite;
    }
    EXPECT_EQ(bad == 0, info->type == kNVFP4) << info->name;  // its scales have no infinity
  }
}

TEST(GgmlCheck, NamesTheFirstBadBlock) {
  std::vector<uint8_t> blocks(18 * 4);
  blocks[18 * 2 + 1] = 0x7c;  // infinity
  EXPECT_EQ(first_bad_scale(kQ4_0, blocks.data(), 4), 2u);
  EXPECT_EQ(first_bad_scale(kQ4_0, blocks.data(), 2), 2u);
}

}  // namespace
}  // namespace loadstone::ggml
