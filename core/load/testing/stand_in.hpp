// The kit over the stand-in for a GPU (core/device/testing). Skipped elsewhere: these tests say how
// much is free and read what was copied, which a real one doesn't let them.
#pragma once

#include "device/cuda.hpp"
#include "load/testing/kit.hpp"

namespace loadstone::load::testing {

class StandInKit : public Kit {
 protected:
  void SetUp() override {
    const auto found = device::properties(0);
    if (!found.ok()) GTEST_SKIP() << found.error().text();
    if (found->name != "stand-in") GTEST_SKIP() << "found " << found->name << ", expected stand-in";
    Kit::SetUp();
    target_ = *plan::parse_target("cuda:0");
    target_.sm = found->sm;
  }
};

}  // namespace loadstone::load::testing
