#include "base/parallel.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/processors.hpp"

namespace loadstone {
namespace {

TEST(ThreadPool, RunsEachIndexOnce) {
  for (unsigned threads : {1u, 2u, 5u}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (size_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(count);
      pool.for_each(count, [&](size_t i) { ++seen[i]; });
      for (const auto& times : seen) EXPECT_EQ(times, 1);
    }
  }
}

TEST(ThreadPool, NestedCallsRunInline) {
  ThreadPool pool(3);
  std::atomic<int> sum{0};
  pool.for_each(4, [&](size_t) {
    const auto outer = std::this_thread::get_id();
    pool.for_each(5, [&](size_t) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      ++sum;
    });
  });
  EXPECT_EQ(sum, 20);
}

TEST(ThreadPool, ServesSeveralCallers) {
  ThreadPool pool(3);
  std::atomic<int> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) pool.for_each(20, [&](size_t) { ++sum; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 50 * 20);
}

TEST(UsableThreads, QuotaRoundsUp) {
  using detail::processors_of_cpu_max;
  EXPECT_EQ(processors_of_cpu_max("200000 100000"), 2u);
  EXPECT_EQ(processors_of_cpu_max("150000 100000"), 2u);
  EXPECT_EQ(processors_of_cpu_max("1000 100000"), 1u);
  EXPECT_EQ(processors_of_cpu_max("max 100000"), std::nullopt);
  EXPECT_EQ(processors_of_cpu_max(""), std::nullopt);
  EXPECT_EQ(processors_of_cpu_max("200000 0"), std::nullopt);
  EXPECT_EQ(detail::processors_of_cfs("-1", "100000"), std::nullopt);
  EXPECT_EQ(detail::processors_of_cfs("400000", "100000"), 4u);
}

TEST(UsableThreads, IsWithinTheMachine) {
  EXPECT_GE(usable_threads(), 1u);
  EXPECT_LE(usable_threads(), std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace loadstone
