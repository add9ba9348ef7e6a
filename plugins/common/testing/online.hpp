// Test side only: what every method that quantizes float weights at load promises, whatever its
// numerics.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "common/testing/one_layer.hpp"

namespace loadstone::common::testing {

/// Three experts, the second without a token: each token's output is its own expert's as a layer
/// alone, to 4 units in the last place. The driver is configured.
inline void expect_experts_by_their_own_matrix(Driver& driver) {
  constexpr uint64_t kOut = 10, kIn = 48;
  TestLayer experts;
  experts.kind = LS_KIND_GROUPED;
  experts.groups = 3;
  experts.out = kOut;
  experts.in = kIn;
  for (uint32_t g = 0; g < experts.groups; ++g) {
    experts.part("experts." + std::to_string(g), 0, kOut, g);
    experts.tensor("weight", LS_DTYPE_F32, {kOut, kIn}, random_values(kOut * kIn, 40 + g), g);
  }
  Produced produced = driver.produce(experts);
  const auto x = random_values(20 * kIn, 5);
  const uint64_t ends[] = {7, 7, 20};
  Driver::Run run = run_of(x, kIn, kOut);
  run.group_end = ends;
  const auto y = driver.apply(experts, produced, run);
  for (const uint32_t g : {0u, 2u}) {
    const uint64_t begin = g == 0 ? 0 : ends[g - 1], count = ends[g] - begin;
    TestLayer alone = floats(kOut, kIn, 40 + g);
    Produced own = driver.produce(alone);
    Driver::Run part = run_of(x, kIn, kOut);
    part.x = x.data() + begin * kIn;
    part.m = count;
    const auto wanted = driver.apply(alone, own, part);
    for (uint64_t i = 0; i < count * kOut; ++i) {
      EXPECT_FLOAT_EQ(y[begin * kOut + i], wanted[i]) << "expert " << g << ", value " << i;
    }
  }
}

/// One value of the second row that is not finite makes that row's outputs not finite, and the
/// other rows' too where one scale serves the `whole_tensor`, none else. The driver is configured.
inline void expect_non_finite_activations_show(Driver& driver, uint64_t k,
                                               bool whole_tensor = false) {
  constexpr uint64_t kOut = 20;
  TestLayer layer = floats(kOut, k);
  Produced produced = driver.produce(layer);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    auto x = random_values(3 * k, 4);
    x[k + 7] = bad;
    const auto y = driver.apply(layer, produced, run_of(x, k, kOut));
    for (uint64_t j = 0; j < kOut; ++j) {
      EXPECT_EQ(std::isfinite(y[j]), !whole_tensor) << bad;
      EXPECT_FALSE(std::isfinite(y[kOut + j])) << bad;
    }
  }
}

}  // namespace loadstone::common::testing
