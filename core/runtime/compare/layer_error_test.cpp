#include "runtime/compare/layer_error.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace loadstone::compare {
namespace {

TEST(SquaredError, IsRelativeOverAllPieces) {
  SquaredError error;
  error.add(std::vector<float>{3, 0}, std::vector<float>{3, 1});
  error.add(std::vector<float>{4}, std::vector<float>{2});
  EXPECT_DOUBLE_EQ(error.relative(), std::sqrt(5.0) / 5.0);
  EXPECT_EQ(error.count(), 3u);
}

TEST(SquaredError, HasItsLimitsAtZero) {
  SquaredError none;
  EXPECT_EQ(none.relative(), 0);
  none.add(std::vector<float>{0}, std::vector<float>{0});
  EXPECT_EQ(none.relative(), 0);
  none.add(std::vector<float>{0}, std::vector<float>{1});
  EXPECT_TRUE(std::isinf(none.relative()));
}

}  // namespace
}  // namespace loadstone::compare
