#include "runtime/scheduler/flow_match_euler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace loadstone::scheduler {
namespace {

constexpr const char* kQwenImage = R"({
  "_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256, "base_shift": 0.5,
  "max_image_seq_len": 8192, "max_shift": 0.9, "num_train_timesteps": 1000, "shift": 1.0,
  "shift_terminal": 0.02, "time_shift_type": "exponential", "use_dynamic_shifting": true})";

Result<FlowMatchConfig> read(const std::string& json) {
  auto node = parse_json(json, "scheduler_config.json");
  EXPECT_TRUE(node.ok());
  return read_flow_match_config(*node);
}

TEST(FlowMatchEuler, EndsAtTheTerminalShiftAndZero) {
  auto config = read(kQwenImage);
  ASSERT_TRUE(config.ok());
  for (int64_t steps : {2, 3, 10, 20, 50}) {
    auto schedule = make_schedule(*config, steps, 64);
    ASSERT_TRUE(schedule.ok());
    ASSERT_EQ(schedule->sigmas.size(), static_cast<size_t>(steps) + 1);
    EXPECT_EQ(schedule->sigmas.front(), 1.0f);
    EXPECT_NEAR(schedule->sigmas[static_cast<size_t>(steps) - 1], 0.02, 1e-6);
    EXPECT_EQ(schedule->sigmas.back(), 0.0f);
    for (size_t i = 0; i + 1 < schedule->sigmas.size(); ++i) {
      EXPECT_GT(schedule->sigmas[i], schedule->sigmas[i + 1]);
    }
    EXPECT_EQ(schedule->timesteps.front(), 1000.0f);
  }
}

TEST(FlowMatchEuler, ShiftGrowsWithImageTokens) {
  auto config = read(kQwenImage);
  ASSERT_TRUE(config.ok());
  EXPECT_DOUBLE_EQ(make_schedule(*config, 4, 256)->mu, 0.5);
  EXPECT_DOUBLE_EQ(make_schedule(*config, 4, 8192)->mu, 0.9);
  EXPECT_NEAR(make_schedule(*config, 4, 64)->mu, 0.4903225806451613, 1e-15);
}

TEST(FlowMatchEuler, StaticShiftWithoutTerminal) {
  auto config = read(R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})");
  ASSERT_TRUE(config.ok());
  auto schedule = make_schedule(*config, 2, 64);
  ASSERT_TRUE(schedule.ok());
  EXPECT_THAT(schedule->sigmas, ::testing::ElementsAre(1.0f, 0.75f, 0.0f));
  EXPECT_EQ(make_schedule(*config, 1, 64)->sigmas.size(), 2u);
}

TEST(FlowMatchEuler, RejectsWhatItCannotSchedule) {
  auto config = read(kQwenImage);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(make_schedule(*config, 1, 64).error().text(),
            "no schedule: found 1 step with shift_terminal, expected at least 2");
  EXPECT_EQ(make_schedule(*config, 0, 64).error().text(),
            "no schedule: found 0 steps over 64 image tokens, expected 1 to 1000 steps and at "
            "least 1 token");
  EXPECT_FALSE(make_schedule(*config, 1001, 64).ok());
  EXPECT_FALSE(make_schedule(*config, 2, 0).ok());
}

TEST(FlowMatchEuler, RejectsOtherSchedulersAndVariants) {
  struct Case {
    const char* json;
    const char* text;
  };
  const Case cases[] = {
      {R"({"_class_name": "UniPCMultistepScheduler"})",
       "found \"UniPCMultistepScheduler\", expected \"FlowMatchEulerDiscreteScheduler\""},
      {R"({})", "found no _class_name, expected \"FlowMatchEulerDiscreteScheduler\""},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_karras_sigmas": true})",
       "found use_karras_sigmas true, expected false"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": "big"})",
       "found \"big\" as shift, expected a number"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 1.5})",
       "as shift_terminal, expected 0 up to below 1"},
      {R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 4096})",
       "found 4096 as max_image_seq_len, expected another value than base_image_seq_len"},
  };
  for (const Case& c : cases) {
    auto config = read(c.json);
    ASSERT_FALSE(config.ok()) << c.json;
    EXPECT_THAT(config.error().text(), ::testing::HasSubstr(c.text));
  }
}

}  // namespace
}  // namespace loadstone::scheduler
