// Test side only: at::randn gives the same numbers in every run, test by test. LibTorch's generator
// takes its seed from the system; at::manual_seed would ask for CUDA, which a test may open later.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

namespace loadstone::testing {

class SeedBeforeEachTest : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    at::Generator shared = at::detail::getDefaultCPUGenerator();
    shared.set_current_seed(17);
  }
};

inline const bool kSeeded = [] {
  ::testing::UnitTest::GetInstance()->listeners().Append(new SeedBeforeEachTest);  // gtest's own
  return true;
}();

}  // namespace loadstone::testing
