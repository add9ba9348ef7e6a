#include "load/pages.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <thread>

#include "load/loaded_model.hpp"

namespace loadstone::load {

namespace {

TEST(CheaperWay, TriesBothThenKeepsTheCheaper) {
  CheaperWay way;
  int chosen[2] = {0, 0};
  for (int i = 0; i < 1000; ++i) {
    int one = way.choose().way;
    ++chosen[one];
    way.learn(one, one == 0 ? 5.0 : 0.5, 1);
  }
  EXPECT_EQ(chosen[0], 1 + 3);  // a trial, and a look after every 320
  EXPECT_EQ(chosen[1], 996);
}

TEST(CheaperWay, WaitsForNoMeasurement) {
  CheaperWay way;
  EXPECT_EQ(way.choose().way, 0);
  EXPECT_EQ(way.choose().way, 1);  // another thread, while the first way still runs
  EXPECT_EQ(way.choose().way, 1);
  way.learn(1, 1.0, 1);
  EXPECT_EQ(way.choose().way, 1);
  way.learn(0, 0.2, 1);
  EXPECT_EQ(way.choose().way, 0);
}

TEST(CheaperWay, FollowsWhenCostsTurn) {
  CheaperWay way;
  int last = 0;
  for (int i = 0; i < 200; ++i) {
    last = way.choose().way;
    bool early = i < 50;
    way.learn(last, (last == 0) == early ? 0.1 : 1.0, 1);
  }
  EXPECT_EQ(last, 1);
}

TEST(SlabPages, BringsEachWindowOnce) {
  auto slab = HostSlab::allocate(9u << 20);
  ASSERT_TRUE(slab.ok());
  SlabPages pages;
  pages.add(slab->data(), slab->nbytes());
  pages.prepare(slab->data() + (5u << 20), 1);
  auto present = [&](uint64_t offset) {
    unsigned char state = 0;
    mincore(slab->data() + offset, 1, &state);
    return (state & 1) != 0;
  };
  if (!present(5u << 20)) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  auto window = reinterpret_cast<uintptr_t>(slab->data() + (5u << 20)) / SlabPages::kWindowNbytes;
  for (uint64_t offset = 0; offset < slab->nbytes(); offset += 4096) {
    auto at = reinterpret_cast<uintptr_t>(slab->data() + offset);
    EXPECT_EQ(present(offset), at / SlabPages::kWindowNbytes == window) << offset;
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { pages.prepare(slab->data(), slab->nbytes()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(present(0) && present((9u << 20) - 4096));
}

}  // namespace
}  // namespace loadstone::load
