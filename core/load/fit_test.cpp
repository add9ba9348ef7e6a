// Plans against what the stand-in for a GPU has free.
#include "load/fit.hpp"

#include <cstdlib>

#include "device/cuda.hpp"
#include "load/testing/stand_in.hpp"

namespace loadstone::load {
namespace {

constexpr uint64_t kMiB = 1u << 20;

class Fit : public testing::StandInKit {
 protected:
  void TearDown() override {
    unsetenv("STAND_IN_NBYTES");
    StandInKit::TearDown();
  }

  static void set_memory(uint64_t nbytes) {
    setenv("STAND_IN_NBYTES", std::to_string(nbytes).c_str(), 1);
  }

  /// A transformer of 600 MiB and an encoder of 300 on cuda:0, a vae of 100 on `vae`, and 50 of
  /// staging a GPU.
  static plan::Plan three_components(const char* vae) {
    plan::Plan plan;
    const std::pair<const char*, uint64_t> parts[] = {
        {"vae", 100}, {"transformer", 600}, {"encoder", 300}};
    for (const auto& [name, size] : parts) {
      const bool apart = std::string(name) == "vae";
      plan.slabs.push_back({static_cast<uint32_t>(plan.slabs.size()), size * kMiB,
                            *plan::parse_target(apart ? vae : "cuda:0")});
      plan.graph.components.emplace_back().name = name;
    }
    plan.flow.gpus = std::string(vae) == "cuda:1" ? 2 : 1;
    plan.peaks.staging = plan.flow.gpus * 50 * kMiB;
    return plan;
  }

  /// A layer of `user` whose stored tensors are those of a layer of `owner`.
  static void share(plan::Plan& plan, uint32_t owner, uint32_t user) {
    for (uint32_t component : {owner, user}) {
      plan.layers.emplace_back().layer = static_cast<uint32_t>(plan.graph.layers.size());
      plan.graph.layers.emplace_back().component = component;
    }
    plan.layers.back().shared_with = 0;
  }
};

TEST_F(Fit, AnExcessNamesTheSmallestComponentWhosePlaceOnTheCpuWouldDo) {
  const auto text = [](const std::string& peak, const std::string& free) {
    return "plan exceeds device memory: cuda:0: found " + peak +
           " predicted peak (transformer 600.0 MiB, encoder 300.0 MiB, vae 100.0 MiB, staging 50.0 "
           "MiB), expected at most " +
           free + " (free now)";
  };
  const auto place = [](const std::string& setting) {
    return "; did you mean load.place: " + setting + " less)?";
  };
  const std::pair<uint64_t, std::string> cases[] = {
      {1050 * kMiB, ""},
      {1050 * kMiB - 1,
       text("1101004800 bytes", "1101004799 bytes") + place("{vae: cpu} (100.0 MiB")},
      {950 * kMiB, text("1.0 GiB", "950.0 MiB") + place("{vae: cpu} (100.0 MiB")},
      {950 * kMiB - 1, text("1.0 GiB", "950.0 MiB") + place("{encoder: cpu} (300.0 MiB")},
      {450 * kMiB, text("1.0 GiB", "450.0 MiB") + place("{transformer: cpu} (600.0 MiB")},
      {449 * kMiB, text("1.0 GiB", "449.0 MiB")},
      {0, text("1.0 GiB", "0 bytes")}};
  for (const auto& [free, expected] : cases) {
    SCOPED_TRACE(free);
    set_memory(free);
    const Status fits = check_fits(three_components("cuda:0"));
    ASSERT_EQ(fits.ok(), expected.empty());
    if (fits.ok()) continue;
    EXPECT_EQ(fits.error().text(), expected);
    EXPECT_EQ(fits.error().code, Code::resource);
  }
}

TEST_F(Fit, WhatLiesElsewhereIsNotCounted) {
  set_memory(950 * kMiB);
  for (const char* elsewhere : {"cpu", "cuda:sm80"}) {
    const Status fits = check_fits(three_components(elsewhere));
    EXPECT_TRUE(fits.ok()) << elsewhere << ": " << fits.error().text();
  }
  const Status fits = check_fits(three_components("cuda:1"));
  ASSERT_FALSE(fits.ok());
  EXPECT_EQ(fits.error().text(), "cannot use cuda:1: found 1 GPU, expected more than 1");
}

TEST_F(Fit, MemoryThatIsHeldIsNotFree) {
  set_memory(1100 * kMiB);
  ASSERT_TRUE(check_fits(three_components("cuda:0")).ok());
  {
    auto held = device::Memory::allocate(0, 51 * kMiB);
    ASSERT_TRUE(held.ok()) << held.error().text();
    const Status fits = check_fits(three_components("cuda:0"));
    ASSERT_FALSE(fits.ok());
    EXPECT_EQ(fits.error().hint, "load.place: {vae: cpu} (100.0 MiB less)");
  }
  EXPECT_TRUE(check_fits(three_components("cuda:0")).ok());
}

TEST_F(Fit, AComponentThatHoldsAnothersTensorsIsNoHint) {
  set_memory(950 * kMiB);
  plan::Plan plan = three_components("cuda:0");
  share(plan, 0, 1);
  const Status fits = check_fits(plan);
  ASSERT_FALSE(fits.ok());
  EXPECT_EQ(fits.error().hint, "load.place: {encoder: cpu} (300.0 MiB less)");
}

TEST_F(Fit, ALoadThatExceedsTheMemoryReadsNothing) {
  linear("kept", 3000, 512, "");
  write();
  set_memory(2 * kMiB);
  expect_error(load_all(), Code::resource,
               "plan exceeds device memory: cuda:0: found 2.9 MiB predicted peak (transformer 2.9 "
               "MiB), expected at most 2.0 MiB (free now); did you mean load.place: {transformer: "
               "cpu} (2.9 MiB less)?");
  EXPECT_EQ(faults().reads, 0u);
  set_memory(3 * kMiB);
  auto model = load_all();
  ASSERT_TRUE(model.ok()) << model.error().text();
  expect_right(*model);
}

}  // namespace
}  // namespace loadstone::load
