#include "runtime/compare/guidance.hpp"

#include <gmock/gmock.h>

#include <limits>

namespace loadstone::compare {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Metrics at(double psnr, double mae, double cosine, double relative) {
  Metrics m;
  m.psnr_db = psnr;
  m.mae = mae;
  m.cosine_similarity = cosine;
  m.relative_l2 = relative;
  return m;
}

TEST(Gate, PassesAtItsLimits) {
  EXPECT_THAT(gate_failures(at(20, 12, 0.98, 0.20), Gate::smoke), IsEmpty());
  EXPECT_THAT(gate_failures(at(25, 6, 0.995, 0.08), Gate::strict), IsEmpty());
  EXPECT_THAT(gate_failures(at(std::numeric_limits<double>::infinity(), 0, 1, 0), Gate::strict),
              IsEmpty());
}

TEST(Gate, NamesEveryMetricThatMisses) {
  EXPECT_THAT(gate_failures(at(24.9, 6.1, 0.9949, 0.081), Gate::strict),
              ElementsAre("psnr_db is 24.9, strict asks for at least 25",
                          "mae is 6.1, strict asks for at most 6",
                          "cosine_similarity is 0.9949, strict asks for at least 0.995",
                          "relative_l2 is 0.081, strict asks for at most 0.08"));
  EXPECT_THAT(gate_failures(at(24.9, 6.1, 0.9949, 0.081), Gate::smoke), IsEmpty());
}

TEST(Gate, IsMissedByAnUnknownValue) {
  EXPECT_EQ(
      gate_failures(at(std::numeric_limits<double>::quiet_NaN(), 0, 1, 0), Gate::smoke).size(), 1u);
}

TEST(Guidance, ExplainsEveryThreshold) {
  for (const Threshold& threshold : thresholds()) {
    bool described = false;
    for (const Description& line : descriptions()) described |= line.metric == threshold.metric;
    EXPECT_TRUE(described) << threshold.metric;
  }
  EXPECT_EQ(threshold_text(thresholds()[0]), "smoke: >= 20, strict: >= 25, best: >= 30");
  EXPECT_EQ(threshold_text(thresholds()[4]), "<= 1.1");
}

}  // namespace
}  // namespace loadstone::compare
