#include "runtime/compare/result.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "runtime/compare/testing.hpp"

namespace loadstone::compare {
namespace {

using nlohmann::json;
using ::testing::UnorderedElementsAre;

Comparison sample(bool equal) {
  Comparison c;
  c.model = "m";
  c.prompt = "a \"cup\"";
  c.reference_config = {"reference", "m", {}, {}, "default"};
  c.candidate_config = {"candidate", "m", "fp8", {}, "default"};
  c.reference_generation = {{2.0, 4.0}, {100.0, std::nullopt}, 1.0, 1000};
  c.candidate_generation = {{3.0, 6.0}, {90.0, 95.0}, 1.0, 500};
  c.measure_runs = 2;
  const std::vector<Frame> reference{testing::flat(2, 2, 9)},
      candidate{testing::flat(2, 2, equal ? 9 : 12)};
  c.metrics = frame_metrics(reference, candidate).value();
  return c;
}

std::vector<std::string> keys_of(const json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST(ResultJson, HasTheReferenceToolsKeys) {
  const json out = json::parse(to_json(sample(false)));
  EXPECT_THAT(keys_of(out),
              UnorderedElementsAre("model", "prompt", "negative_prompt", "seed", "warmup_runs",
                                   "measure_runs", "variant_configs", "sampling_kwargs",
                                   "metric_guidance", "reference_generation",
                                   "candidate_generation", "output_metrics", "loadstone"));
  EXPECT_THAT(keys_of(out["sampling_kwargs"]),
              UnorderedElementsAre("task", "width", "height", "num_frames", "num_inference_steps",
                                   "guidance_scale", "cfg_scale", "guidance_scale_2", "flow_shift",
                                   "num_images_per_prompt", "step_execution"));
  EXPECT_THAT(keys_of(out["variant_configs"]["candidate"]),
              UnorderedElementsAre("label", "model", "quantization", "quantization_config",
                                   "diffusion_load_format"));
  EXPECT_THAT(
      keys_of(out["output_metrics"]),
      UnorderedElementsAre("num_frames", "frame0_metrics", "mid_frame_index", "mid_frame_metrics",
                           "all_frames_metrics", "num_images", "image0_metrics", "mid_image_index",
                           "mid_image_metrics", "all_images_metrics"));
  EXPECT_THAT(keys_of(out["output_metrics"]["image0_metrics"]),
              UnorderedElementsAre("cosine_similarity", "mae", "mse", "rmse", "max_abs", "l2",
                                   "relative_l2", "psnr_db"));
  EXPECT_THAT(keys_of(out["metric_guidance"]),
              UnorderedElementsAre("scope", "descriptions", "recommended_thresholds"));
  EXPECT_TRUE(out["negative_prompt"].is_null());
  EXPECT_TRUE(out["variant_configs"]["reference"]["quantization"].is_null());
}

TEST(ResultJson, SummarisesTheRuns) {
  const json out = json::parse(to_json(sample(false)))["reference_generation"];
  EXPECT_EQ(out["generation_time_s"], 4.0) << "the last run";
  EXPECT_EQ(out["avg_generation_time_s"], 3.0);
  EXPECT_EQ(out["per_run_generation_time_s"], json({2.0, 4.0}));
  EXPECT_EQ(out["peak_memory_mb"], 100.0) << "the last known one";
  EXPECT_EQ(out["per_run_peak_memory_mb"], json({100.0, nullptr}));
}

TEST(ResultJson, IsSortedIndentedAndValidForInfinity) {
  const std::string text = to_json(sample(true));
  EXPECT_EQ(text, json::parse(text).dump(2) + "\n");
  EXPECT_EQ(json::parse(text)["output_metrics"]["image0_metrics"]["psnr_db"], "inf");
}

TEST(ResultJson, OfFoldersHasNoGeneration) {
  Comparison c = sample(false);
  c.reference_dir = "a";
  c.candidate_dir = "b";
  c.gate = Gate::strict;
  const json out = json::parse(to_json(c));
  EXPECT_EQ(out["reference_dir"], "a");
  EXPECT_FALSE(out.contains("reference_generation"));
  EXPECT_EQ(out["loadstone"]["gate"]["passed"], false) << "3 of 9 is a large relative error";
}

TEST(Comparison, RatiosNeedBothSides) {
  Comparison c = sample(false);
  EXPECT_DOUBLE_EQ(*c.time_ratio(), 1.5);
  EXPECT_DOUBLE_EQ(*c.memory_ratio(), 0.95);
  c.reference_generation.run_peak_mib = {std::nullopt, std::nullopt};
  EXPECT_FALSE(c.memory_ratio());
}

}  // namespace
}  // namespace loadstone::compare
