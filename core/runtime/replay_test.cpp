// Bodies that are run again and again. What needs a GPU is skipped without one.
#include "runtime/replay.hpp"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "device/cuda.hpp"
#include "runtime/side_queue.hpp"
#include "runtime/step_clock.hpp"
#include "runtime/testing/seeded.hpp"
#include "runtime/torch_setup.hpp"

namespace loadstone::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<RunState> recording() {
  auto state = std::make_shared<RunState>();
  state->recording = true;
  return state;
}

Error some_error() { return Error{Code::internal, "layer failed", "a.b", "", "", {}}; }

TEST(RepeatedBody, RunsAsItIsOnTheCpu) {
  int calls = 0;
  Repeated body(at::kCPU, recording(), [&] { ++calls; });
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(body.run().ok());
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(body.nbytes(), 0u);
}

TEST(RepeatedBody, ReportsWhatALayerLeftAndACancel) {
  auto state = recording();
  Repeated body(at::kCPU, state, [&] { state->fail(some_error()); });
  EXPECT_EQ(body.run().error().text(), "layer failed: a.b");
  CancelToken token;
  token.cancel();
  state->cancel = &token;
  EXPECT_EQ(body.run().error().code, Code::cancelled);
}

TEST(RepeatedFunctions, ComputeOnTheirDeviceForEachShape) {
  RepeatedFunction twice(
      at::kCPU, recording(), [](const at::Tensor& x) { return x.mul(2); }, 100);
  for (const int64_t size : {3, 5, 3, 7, 11, 13}) {
    const at::Tensor x = at::randn({size});
    auto y = twice(x);
    ASSERT_TRUE(y.ok());
    EXPECT_TRUE(at::equal(*y, x.mul(2)));
  }
}

TEST(RepeatedFunctions, ReportWhatALayerLeft) {
  auto state = recording();
  RepeatedFunction bad(
      at::kCPU, state,
      [&](const at::Tensor& x) {
        state->fail(some_error());
        return x;
      },
      100);
  EXPECT_EQ(bad(at::zeros({1})).error().text(), "layer failed: a.b");
}

TEST(Recording, NeedsAGpu) {
  EXPECT_EQ(Graph::record(at::kCPU, [] {}).error().text(),
            "kernels are not recorded: found the CPU, expected work that only queues kernels");
}

TEST(SideQueue, OnTheCpuWorkIsDoneAtOnce) {
  SideQueue aside(at::kCPU, true);
  int done = 0;
  aside.run([&] { done = 1; });
  EXPECT_EQ(done, 1);
  aside.join();
}

TEST(FormsOfAStep, AreAskedWithTheStepThatComes) {
  RunState state;
  state.step = {sizeof(ls_step), 3, 8, 0};
  int layer = 0;
  state.forms[&layer] = [](const ls_step& step) -> Result<uint64_t> { return step.index + 10ull; };
  EXPECT_THAT(*state.forms_now(), ElementsAre(13u));
  state.forms[&layer] = [](const ls_step&) -> Result<uint64_t> { return some_error(); };
  EXPECT_EQ(state.forms_now().error().text(), "layer failed: a.b");
}

TEST(StepClocks, CountStepsAndTheirSeconds) {
  StepClock clock(at::kCPU);
  clock.lap();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  clock.lap();
  const auto seconds = clock.seconds();
  ASSERT_EQ(seconds.size(), 2u);
  EXPECT_GE(seconds[1], 0.02);
  EXPECT_LT(seconds[0], seconds[1]);
}

class OnTheGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto found = device::properties(0); !found.ok()) GTEST_SKIP() << found.error().text();
    const Status ready = set_up_cuda(0);
    ASSERT_TRUE(ready.ok()) << ready.error().text();
    options_ = at::TensorOptions().device(gpu_).dtype(at::kFloat);
  }

  const at::Device gpu_{at::kCUDA, 0};
  at::TensorOptions options_;
};

TEST_F(OnTheGpu, ReplaysReadAndWriteTheSameTensors) {
  const at::Tensor x = at::zeros({256, 256}, options_), w = at::randn({256, 256}, options_);
  at::Tensor y;
  int calls = 0;
  Repeated body(gpu_, recording(), [&] {
    ++calls;
    y = at::mm(x, w).add(1).relu();
    x.add_(1);
  });
  for (int i = 0; i < 6; ++i) {
    const at::Tensor before = x.clone();
    ASSERT_TRUE(body.run().ok());
    EXPECT_TRUE(at::equal(y, at::mm(before, w).add(1).relu())) << "call " << i;
    EXPECT_TRUE(at::equal(x, before.add(1))) << "call " << i;
  }
  EXPECT_EQ(calls, 2);  // once as it is, once recorded
  EXPECT_GT(body.nbytes(), 0u);
}

/// y = 3 rounds of powers made aside, each joined by a product of the current queue's; temporaries
/// are freed while the work aside that reads them still waits.
void powers(SideQueue& aside, const at::Tensor& x, at::Tensor& y) {
  at::Tensor power, sum = x;
  for (int round = 0; round < 3; ++round) {
    at::Tensor begun = sum.add(round);
    aside.keep(begun);
    aside.run([&] {
      power = begun;
      for (int i = 0; i < 20; ++i) power = power.matmul(x);
    });
    begun.reset();
    const at::Tensor other = x.mul(2);
    aside.join();
    sum = power.add(other);
  }
  y.copy_(sum);
}

TEST_F(OnTheGpu, WorkAsideIsDoneAtTheJoin) {
  const at::Tensor x = at::randn({2048, 2048}, options_).mul(1.0 / 48);
  SideQueue in_place(gpu_, false), aside(gpu_, true);
  at::Tensor expected = at::empty_like(x), found = at::empty_like(x);
  powers(in_place, x, expected);
  powers(aside, x, found);
  EXPECT_TRUE(at::equal(found, expected));
}

TEST_F(OnTheGpu, WorkAsideIsRecordedWithTheRest) {
  const at::Tensor x = at::randn({1024, 1024}, options_).mul(1.0 / 34);
  SideQueue in_place(gpu_, false), aside(gpu_, true);
  at::Tensor y = at::empty_like(x), expected = at::empty_like(x);
  auto state = recording();
  Repeated body(gpu_, state, [&] {
    powers(aside, x, y);
    x.mul_(0.99);
  });
  for (int i = 0; i < 5; ++i) {
    powers(in_place, x, expected);
    ASSERT_TRUE(body.run().ok());
    EXPECT_TRUE(at::equal(y, expected)) << "call " << i;
  }
  EXPECT_EQ(state->not_recorded, "");
  EXPECT_GT(body.nbytes(), 0u);
}

TEST_F(OnTheGpu, WhatWaitsIsNotRecordedAndSaysSo) {
  auto state = recording();
  const at::Tensor x = at::ones({4}, options_);
  double sum = 0;
  Repeated body(gpu_, state, [&] { sum = x.add_(1).sum().item().toDouble(); });
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(body.run().ok());
  EXPECT_THAT(state->not_recorded, HasSubstr("kernels are not recorded: found "));
  EXPECT_GE(sum, 20);
  // Others of the pipeline, and LibTorch itself, go on.
  EXPECT_EQ(at::ones({2}, options_).sum().item().toDouble(), 2);
}

TEST_F(OnTheGpu, EachFormIsRecordedByItself) {
  auto state = recording();
  const at::Tensor x = at::zeros({1}, options_);
  uint64_t form = 0;
  state->forms[&form] = [&](const ls_step&) -> Result<uint64_t> { return form; };
  Repeated body(gpu_, state, [&] { x.add_(form == 0 ? 1 : 100); });
  for (const uint64_t next : {0, 0, 0, 1, 1, 1, 0, 1}) {
    form = next;
    ASSERT_TRUE(body.run().ok());
  }
  EXPECT_EQ(x.item().toDouble(), 404);
}

TEST_F(OnTheGpu, AnObservedBodyAlwaysRuns) {
  auto state = recording();
  int calls = 0;
  Repeated body(gpu_, state, [&] { ++calls; });
  state->observer = [](auto&&...) {};
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(body.run().ok());
  EXPECT_EQ(calls, 4);
}

TEST_F(OnTheGpu, FunctionsKeepTheShapesThatWereSeenLately) {
  RepeatedFunction twice(
      gpu_, recording(), [](const at::Tensor& x) { return x.mul(2); }, 8);
  for (int round = 0; round < 3; ++round) {
    for (const int64_t size : {3, 4, 5, 6, 7, 16}) {
      const at::Tensor x = at::randn({size}, options_);
      auto y = twice(x);
      ASSERT_TRUE(y.ok());
      EXPECT_TRUE(at::equal(*y, x.mul(2)));
    }
  }
}

TEST_F(OnTheGpu, StepsAreTimedByTheDevice) {
  StepClock clock(gpu_);
  at::Tensor x = at::randn({2048, 2048}, options_);
  for (int i = 0; i < 3; ++i) {
    x = at::mm(x, x).mul_(1e-3);
    clock.lap();
  }
  const auto seconds = clock.seconds();
  ASSERT_EQ(seconds.size(), 3u);
  for (const double step : seconds) EXPECT_GT(step, 0);
}

}  // namespace
}  // namespace loadstone::runtime
