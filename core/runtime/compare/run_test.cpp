#include "runtime/compare/run.hpp"

#include <gmock/gmock.h>

#include "runtime/compare/testing.hpp"

namespace loadstone::compare {
namespace {

using ::testing::ElementsAre;
using testing::flat;
using testing::Folder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::pattern;

/// Draws flat pictures whose value counts the runs; writes down what happens to it.
class FakeSide : public Side {
 public:
  FakeSide(std::string label, std::vector<std::string>& log) : label_(label), log_(log) {
    log_.push_back("open " + label_);
  }
  ~FakeSide() override { log_.push_back("close " + label_); }
  Result<std::vector<Frame>> draw(const Drawing& drawing) override {
    log_.push_back("draw " + label_ + " " + std::to_string(drawing.seed));
    if (label_ == "broken") return Error{Code::io, "read failed", "disk", "", "", {}};
    return std::vector<Frame>{flat(2, 2, static_cast<uint8_t>(100 + runs_++))};
  }
  uint64_t stored_nbytes() const override { return 7; }
  Result<std::vector<LayerError>> layer_errors(const VariantConfig& reference,
                                               const Drawing&) override {
    log_.push_back("layers " + label_ + " against " + reference.label);
    return std::vector<LayerError>{{"transformer", "l", "fp8", 0.5, 0.25}};
  }
  std::vector<std::string> notes() const override { return {"noted"}; }

 private:
  std::string label_;
  std::vector<std::string>& log_;
  int runs_ = 0;
};

struct Bench {
  std::vector<std::string> log;
  Request request;
  Bench() {
    request.reference.label = "r";
    request.candidate.label = "c";
    request.drawing.seed = 5;
  }
  Result<Outcome> run() {
    return run_comparison(request,
                          [this](const VariantConfig& variant) -> Result<std::unique_ptr<Side>> {
                            return std::unique_ptr<Side>(new FakeSide(variant.label, log));
                          });
  }
};

TEST(RunComparison, ClosesTheReferenceBeforeTheCandidateOpens) {
  Bench bench;
  ASSERT_TRUE(bench.run().ok());
  EXPECT_THAT(bench.log,
              ElementsAre("open r", "draw r 5", "close r", "open c", "draw c 5", "close c"));
}

TEST(RunComparison, MeasuresTheLastRunAndNoWarmUp) {
  Bench bench;
  bench.request.warmup_runs = 1;
  bench.request.measure_runs = 2;
  const Outcome out = bench.run().value();
  EXPECT_EQ(out.comparison.reference_generation.run_seconds.size(), 2u);
  EXPECT_EQ(out.reference[0].rgb[0], 102) << "the third drawing";
  EXPECT_EQ(out.comparison.metrics.all.mse, 0);
  EXPECT_EQ(out.comparison.candidate_generation.stored_nbytes, 7u);
  EXPECT_THAT(out.comparison.notes, ElementsAre("reference: noted", "candidate: noted"));
}

TEST(RunComparison, MeasuresLayersOfTheCandidateOnly) {
  Bench bench;
  bench.request.layers = true;
  const Outcome out = bench.run().value();
  EXPECT_THAT(bench.log, ElementsAre("open r", "draw r 5", "close r", "open c", "draw c 5",
                                     "layers c against r", "close c"));
  EXPECT_EQ(out.comparison.layers.size(), 1u);
}

TEST(RunComparison, SaysWhichSideFailed) {
  Bench bench;
  bench.request.candidate.label = "broken";
  EXPECT_THAT(bench.run().error().text(), HasSubstr("read failed: candidate: disk"));
  EXPECT_EQ(bench.log.back(), "close broken");
  bench.request.measure_runs = 0;
  EXPECT_EQ(bench.run().error().text(),
            "nothing to measure: measure runs: found 0, expected at least 1");
}

TEST(CompareFolders, PairsPicturesInOrder) {
  const Folder a, b;
  for (uint32_t i = 0; i < 3; ++i) {
    a.write("frame_" + std::to_string(i) + ".png", flat(4, 4, 10));
    b.write("frame_" + std::to_string(i) + ".png", flat(4, 4, static_cast<uint8_t>(10 + i)));
  }
  const Outcome out = compare_folders(system_files(), a.path(), b.path()).value();
  EXPECT_EQ(out.comparison.metrics.count, 3u);
  EXPECT_EQ(out.comparison.metrics.mid.mse, 1);
  EXPECT_DOUBLE_EQ(out.comparison.metrics.all.mse, 5.0 / 3);
  EXPECT_THAT(out.comparison.notes, IsEmpty());
}

TEST(CompareFolders, NotesOtherNamesAndRefusesOtherCounts) {
  const Folder a, b;
  a.write("a.png", flat(4, 4, 10));
  b.write("b.png", flat(4, 4, 10));
  EXPECT_THAT(compare_folders(system_files(), a.path(), b.path()).value().comparison.notes,
              ElementsAre("names differ, paired in order: \"a.png\" with \"b.png\""));
  b.write("c.png", flat(4, 4, 10));
  EXPECT_THAT(compare_folders(system_files(), a.path(), b.path()).error().text(),
              HasSubstr("found 2 pictures, expected 1"));
}

}  // namespace
}  // namespace loadstone::compare
