// Test side only: one layer, its activations, and the words in which it is refused.
#pragma once

#include <gtest/gtest.h>

#include "common/testing/driver.hpp"

namespace loadstone::common::testing {

/// n values from -1 to 1.
inline std::vector<float> random_values(uint64_t n, uint32_t seed = 1) {
  Random random(seed);
  std::vector<float> out(n);
  for (float& value : out) value = random.uniform();
  return out;
}

/// n rows of k inputs, one part, no tensor yet.
inline TestLayer empty(uint64_t n, uint64_t k) {
  TestLayer out;
  out.out = n;
  out.in = k;
  out.part("blocks.0.linear", 0, n);
  return out;
}

/// The same with a float32 weight [n, k].
inline TestLayer floats(uint64_t n, uint64_t k, uint32_t seed = 1) {
  TestLayer out = empty(n, k);
  out.tensor("weight", LS_DTYPE_F32, {n, k}, random_values(n * k, seed));
  return out;
}

/// The text of the refusal that `body` ends in, whatever its status.
template <typename Body>
std::string any_refusal(Body&& body) {
  try {
    body();
  } catch (const Refusal& refused) {
    return refused.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

/// The same of one status.
template <typename Body>
std::string refusal(Body&& body, int32_t status = LS_INVALID_CHECKPOINT) {
  return any_refusal([&] {
    try {
      body();
    } catch (const Refusal& refused) {
      EXPECT_EQ(refused.status, status) << refused.what();
      throw;
    }
  });
}

/// x [m, k] in float32 through n outputs.
inline Driver::Run run_of(const std::vector<float>& x, uint64_t k, uint64_t n) {
  Driver::Run out;
  out.x = x.data();
  out.m = x.size() / k;
  out.k = k;
  out.n = n;
  return out;
}

}  // namespace loadstone::common::testing
