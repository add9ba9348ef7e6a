#include "runtime/compare/report.hpp"

#include <gmock/gmock.h>

#include "runtime/compare/heat_map.hpp"
#include "runtime/compare/html_text.hpp"
#include "runtime/compare/testing.hpp"

namespace loadstone::compare {
namespace {

using testing::flat;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::pattern;

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

Comparison sample(std::span<const Frame> reference, std::span<const Frame> candidate) {
  Comparison c;
  c.model = "m";
  c.prompt = "<b>&\"cup\"";
  c.reference_generation = {{2.0}, {100.0}, 1.0, 1000};
  c.candidate_generation = {{3.0}, {90.0}, 1.0, 500};
  c.layers = {{"transformer", "blocks.0.to_q", "fp8", 0.02, 0.03},
              {"transformer", "x", "fp8", 0.01, {}}};
  c.metrics = frame_metrics(reference, candidate).value();
  return c;
}

TEST(Base64, FollowsItsTestVectors) {  // RFC 4648, section 10
  EXPECT_EQ(html::base64(""), "");
  EXPECT_EQ(html::base64("f"), "Zg==");
  EXPECT_EQ(html::base64("fo"), "Zm8=");
  EXPECT_EQ(html::base64("foo"), "Zm9v");
  EXPECT_EQ(html::base64("foob"), "Zm9vYg==");
  EXPECT_EQ(html::base64("\xff\xfe"), "//4=");
}

TEST(HeatMap, IsBlackWhereEqualAndWhiteAtTheLargest) {
  Frame reference = flat(1, 3, 100), candidate = reference;
  candidate.rgb[4] = 150;
  candidate.rgb[8] = 75;
  EXPECT_EQ(largest_difference(reference, candidate), 50u);
  const Frame map = heat_map(reference, candidate, 50);
  EXPECT_EQ(map.rgb[0] + map.rgb[1] + map.rgb[2], 0);
  EXPECT_EQ(map.rgb[3] + map.rgb[4] + map.rgb[5], 3 * 255);
  EXPECT_GT(map.rgb[6], map.rgb[8]) << "half way is red";
}

TEST(HtmlReport, StandsAloneAndEscapesThePrompt) {
  const std::vector<Frame> reference{pattern(4, 4, 1)}, candidate{pattern(4, 4, 2)};
  const std::string page = html_report(sample(reference, candidate), reference, candidate).value();
  EXPECT_EQ(count_of(page, "src=\"data:image/png;base64,"), 3u);
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;b&gt;&amp;&quot;cup&quot;"));
  EXPECT_THAT(page, HasSubstr("transformer.blocks.0.to_q"));
}

TEST(HtmlReport, ShowsBothThresholds) {
  const std::vector<Frame> reference{flat(2, 2, 100)}, candidate{flat(2, 2, 110)};
  const std::string page = html_report(sample(reference, candidate), reference, candidate).value();
  // mae 10: between the two limits.
  EXPECT_THAT(page, HasSubstr("<td class=\"yes\">✓ ≤ 12</td><td class=\"no\">✗ ≤ 6</td>"));
}

TEST(HtmlReport, ShowsThreeOfManyFrames) {
  std::vector<Frame> reference, candidate;
  for (uint32_t i = 0; i < 20; ++i) {
    reference.push_back(pattern(2, 2, i));
    candidate.push_back(pattern(2, 2, i + 1));
  }
  const std::string page = html_report(sample(reference, candidate), reference, candidate).value();
  EXPECT_EQ(count_of(page, "<h2>Picture "), 3u);
  EXPECT_THAT(page, HasSubstr("Picture 11 of 20"));
}

}  // namespace
}  // namespace loadstone::compare
