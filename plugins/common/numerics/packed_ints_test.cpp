#include "common/numerics/packed_ints.hpp"

#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

using testing::levels;
using testing::Random;

/// The definition: bit i·bits + j of the stream is bit j of value i.
uint32_t by_bits(const std::vector<uint32_t>& words, uint64_t index, uint32_t bits) {
  uint32_t out = 0;
  for (uint32_t j = 0; j < bits; ++j) {
    const uint64_t bit = index * bits + j;
    out |= (words[bit / 32] >> bit % 32 & 1u) << j;
  }
  return out;
}

TEST(PackedInts, EveryWidthAndLengthIsTheStreamAtEveryLevel) {
  Random random(5);
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    for (const size_t n : {0, 1, 5, 31, 32, 33, 64, 65, 200}) {
      std::vector<uint32_t> words(packed_words(n, bits));
      for (uint32_t& word : words) word = random.bits();
      for (const Cpu cpu : levels()) {
        std::vector<float> out(n + 1, -7.0f);
        packed_ints_widen(words.data(), bits, out.data(), n, cpu);
        for (size_t i = 0; i < n; ++i) {
          ASSERT_EQ(out[i], static_cast<float>(by_bits(words, i, bits))) << bits << " " << i;
          ASSERT_EQ(packed_int_at(words.data(), 1, i, bits), by_bits(words, i, bits));
        }
        EXPECT_EQ(out[n], -7.0f) << "written past the end";
      }
    }
  }
}

TEST(PackedInts, WordsOfAStreamMayLieApart) {
  const std::vector<uint32_t> words = {0xc0000000u, 99, 0x00000005u, 99};
  EXPECT_EQ(packed_int_at(words.data(), 2, 10, 3), 7u);  // bits 30 to 32 of two words
}

TEST(PackedInts, LevelsAreOneDifferenceAndOneProduct) {
  for (const Cpu cpu : levels()) {
    std::vector<float> out = {0, 7, 8, 15, 255};
    packed_ints_scale(out.data(), 8.0f, 0.3f, out.size(), cpu);
    EXPECT_EQ(out, (std::vector<float>{-8 * 0.3f, -1 * 0.3f, 0.0f, 7 * 0.3f, 247 * 0.3f}));
  }
}

}  // namespace
}  // namespace loadstone::common
