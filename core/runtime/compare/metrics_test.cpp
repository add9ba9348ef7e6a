#include "runtime/compare/metrics.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "runtime/compare/testing.hpp"

namespace loadstone::compare {
namespace {

using testing::flat;
using testing::pattern;

Metrics of(const std::vector<uint8_t>& reference, const std::vector<uint8_t>& candidate) {
  return metrics_of(reference, candidate).value();
}

TEST(Metrics, FollowTheirFormulas) {
  const Metrics m = of({10, 20, 30}, {11, 19, 33});
  EXPECT_DOUBLE_EQ(m.mse, 11.0 / 3);
  EXPECT_DOUBLE_EQ(m.rmse, std::sqrt(11.0 / 3));
  EXPECT_DOUBLE_EQ(m.mae, 5.0 / 3);
  EXPECT_DOUBLE_EQ(m.max_abs, 3);
  EXPECT_DOUBLE_EQ(m.l2, std::sqrt(11.0));
  EXPECT_DOUBLE_EQ(m.relative_l2, std::sqrt(11.0) / std::sqrt(1400.0));
  EXPECT_DOUBLE_EQ(m.cosine_similarity, 1480.0 / (std::sqrt(1400.0) * std::sqrt(1571.0)));
  EXPECT_DOUBLE_EQ(m.psnr_db, 20 * std::log10(255.0) - 10 * std::log10(11.0 / 3));
}

TEST(Metrics, OfEqualPicturesAreExact) {
  const Metrics m = of({1, 2, 250}, {1, 2, 250});
  EXPECT_EQ(m.mse, 0);
  EXPECT_EQ(m.relative_l2, 0);
  EXPECT_TRUE(std::isinf(m.psnr_db) && m.psnr_db > 0);
  EXPECT_DOUBLE_EQ(m.cosine_similarity, 1);
  EXPECT_LE(m.cosine_similarity, 1) << "clamped";
}

TEST(Metrics, OfBlackPicturesHaveTheirLimits) {
  const Metrics both = of({0, 0}, {0, 0});
  EXPECT_EQ(both.cosine_similarity, 1);
  EXPECT_EQ(both.relative_l2, 0);
  const Metrics reference_black = of({0, 0}, {3, 4});
  EXPECT_EQ(reference_black.cosine_similarity, 0);
  EXPECT_TRUE(std::isinf(reference_black.relative_l2));
  EXPECT_EQ(reference_black.l2, 5);
  const Metrics candidate_black = of({3, 4}, {0, 0});
  EXPECT_EQ(candidate_black.cosine_similarity, 0);
  EXPECT_EQ(candidate_black.relative_l2, 1);
}

TEST(Metrics, StayExactOverManySamples) {
  const std::vector<uint8_t> white(3 << 20, 255), black(3 << 20, 0);
  const Metrics m = of(white, black);
  EXPECT_EQ(m.mse, 65025);
  EXPECT_EQ(m.psnr_db, 20 * std::log10(255.0) - 10 * std::log10(65025.0));
  EXPECT_EQ(m.max_abs, 255);
}

TEST(Metrics, RefuseOtherCounts) {
  const std::vector<uint8_t> two(2), three(3), none;
  EXPECT_EQ(metrics_of(two, three).error().text(),
            "pictures can't be compared: candidate: found 3 samples, expected 2 as in the "
            "reference");
  EXPECT_EQ(metrics_of(none, none).error().text(),
            "pictures can't be compared: reference: found no samples, expected at least one");
}

TEST(FrameMetrics, TakeFirstMiddleAndAllTogether) {
  std::vector<Frame> reference, candidate;
  for (uint8_t i = 0; i < 4; ++i) {
    reference.push_back(flat(2, 3, 100));
    candidate.push_back(flat(2, 3, static_cast<uint8_t>(100 + i)));
  }
  const FrameMetrics m = frame_metrics(reference, candidate).value();
  EXPECT_EQ(m.count, 4u);
  EXPECT_EQ(m.mid_index, 2u);
  EXPECT_EQ(m.first.mse, 0);
  EXPECT_EQ(m.mid.mse, 4);
  EXPECT_DOUBLE_EQ(m.all.mse, (0 + 1 + 4 + 9) / 4.0);
  // Not a mean over frames: that would be infinite.
  EXPECT_DOUBLE_EQ(m.all.psnr_db, 20 * std::log10(255.0) - 10 * std::log10(3.5));
}

TEST(FrameMetrics, RefuseWhatHasNoPair) {
  const std::vector<Frame> one{pattern(2, 2, 1)}, two{pattern(2, 2, 1), pattern(2, 2, 2)};
  const std::vector<Frame> wide{pattern(2, 3, 1)}, mixed{pattern(2, 2, 1), pattern(2, 3, 1)};
  const auto text = [](const std::vector<Frame>& a, const std::vector<Frame>& b) {
    return frame_metrics(a, b).error().text();
  };
  EXPECT_EQ(text(one, two),
            "pictures can't be compared: candidate: found 2 pictures, expected 1 as in the "
            "reference");
  EXPECT_EQ(text(one, wide),
            "pictures can't be compared: picture 0: found 3x2, expected 2x2 as in the reference");
  EXPECT_EQ(text(mixed, mixed),
            "pictures can't be compared: picture 1: found 3x2, expected 2x2 as picture 0");
  EXPECT_EQ(text({}, {}),
            "pictures can't be compared: reference: found no pictures, expected at least one");
}

}  // namespace
}  // namespace loadstone::compare
