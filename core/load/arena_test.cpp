#include "load/arena.hpp"

#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace loadstone::load {
namespace {

TEST(ArenaTest, PlacesNeverOverlapAndAllComeBack) {
  constexpr uint64_t kNbytes = 1000;
  Arena arena(kNbytes);
  std::mt19937 random(3);
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  std::vector<bool> used(kNbytes, false);
  uint64_t refused = 0;
  for (int step = 0; step < 4000; ++step) {
    if (taken.empty() || random() % 2 == 0) {
      const uint64_t nbytes = 1 + random() % 300;
      const bool fits = arena.fits(nbytes);
      const auto at = arena.take(nbytes);
      ASSERT_EQ(at.has_value(), fits);
      if (!at) {
        ++refused;
        continue;
      }
      ASSERT_LE(*at + nbytes, kNbytes);
      for (uint64_t i = *at; i < *at + nbytes; ++i) {
        ASSERT_FALSE(used[i]) << i;
        used[i] = true;
      }
      taken.emplace_back(*at, nbytes);
    } else {
      std::swap(taken[random() % taken.size()], taken.back());
      const auto [at, nbytes] = taken.back();
      taken.pop_back();
      for (uint64_t i = at; i < at + nbytes; ++i) used[i] = false;
      arena.give_back(at, nbytes);
    }
  }
  EXPECT_GT(refused, 0u);
  for (const auto& [at, nbytes] : taken) arena.give_back(at, nbytes);
  EXPECT_EQ(arena.take(kNbytes), 0u);
}

TEST(ArenaTest, NothingNeedsNoRoom) {
  Arena arena(0);
  EXPECT_TRUE(arena.fits(0));
  EXPECT_EQ(arena.take(0), 0u);
  EXPECT_FALSE(arena.fits(1));
  EXPECT_FALSE(arena.take(1));
}

}  // namespace
}  // namespace loadstone::load
