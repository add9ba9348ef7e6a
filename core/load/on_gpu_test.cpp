// Layers that a GPU makes, over the stand-in for one: what is staged, waited for, merged, given
// back.
#include <atomic>
#include <filesystem>

#include "device/pinned_mapping.hpp"
#include "load/testing/stand_in.hpp"
#include "plan/flow.hpp"

namespace loadstone::load {
namespace {

class OnGpu : public testing::StandInKit {
 protected:
  static std::map<std::string, int64_t> on_gpu(std::map<std::string, int64_t> fields = {}) {
    fields["on_gpu"] = 1;
    return fields;
  }

  void some_layers(uint64_t rows = 96) {
    for (int i = 0; i < 4; ++i) {
      std::string n = std::to_string(i);
      linear("double" + n, rows, 64, "double", on_gpu({{"granule", 3}}));
      linear("amax" + n, rows, 64, "amax", on_gpu());
      linear("value" + n, rows, 64, "value", on_gpu());
      linear("resident" + n, rows, 64, "resident", on_gpu());
      linear("checked" + n, rows, 64, "checked", on_gpu());
      linear("swapped" + n, rows, 64, "swapped", on_gpu());
      linear("packed" + n, rows, 64, "packed", on_gpu());
      linear("elsewhere" + n, rows, 64, "double");
      linear("kept" + n, rows, 64, "");
    }
    for (const char* part : {"q", "k", "v"}) {
      tensor(std::string("fused.") + part + ".weight", DType::BF16, {rows + 7, 32});
    }
    layer({"fused", {"fused.q", "fused.k", "fused.v"}, "amax", on_gpu({{"session_scratch", 999}})});
  }

  static plan::LoadOptions with(unsigned threads, uint64_t ring) {
    plan::LoadOptions options;
    options.threads = threads;
    options.ring_nbytes = ring;
    return options;
  }
};

TEST_F(OnGpu, BytesAreRightWhateverRingAndThreads) {
  some_layers();
  linear("large", 3000, 512, "amax", on_gpu());
  linear("wide", 40, 70'000, "double", on_gpu({{"granule", 32}}));  // a granule of 4.5 MB
  write();
  for (unsigned threads : {1u, 2u, 7u}) {
    for (uint64_t ring :
         {uint64_t{4096}, uint64_t{1} << 16, uint64_t{8} << 20, uint64_t{64} << 20}) {
      SCOPED_TRACE(std::to_string(threads) + " threads, ring " + std::to_string(ring));
      auto model = load_all(with(threads, ring));
      ASSERT_TRUE(model.ok()) << model.error().text();
      expect_right(*model);
      expect_as_planned(*model);
      const Report& report = model->report();
      EXPECT_LE(report.measured_peak_device, report.predicted_peak_device);
      EXPECT_GT(report.measured_peak_device, model->plan().peaks.stored_on_devices);
    }
  }
}

TEST_F(OnGpu, BytesAreRightFromMappedFiles) {
  some_layers();
  linear("large", 9000, 1024, "amax", on_gpu());  // more than a window
  linear("as it is", 9000, 1024, "");
  write();
  const auto nbytes = std::filesystem::file_size(file());
  ASSERT_GT(nbytes, 2 * device::PinnedMapping::kWindowNbytes);
  for (unsigned threads : {1u, 7u}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    plan::LoadOptions options = with(threads, 64 << 20);
    options.map_files = true;
    auto model = load_all(options);
    ASSERT_TRUE(model.ok()) << model.error().text();
    expect_right(*model);
    expect_as_planned(*model);
    // What goes over as it was read, or is made there, isn't read.
    EXPECT_LT(faults().read_nbytes, nbytes / 8);
  }
}

TEST_F(OnGpu, AMappedFileThatBecameShorterIsAnError) {
  linear("kept", 9000, 1024, "");
  write();
  plan::LoadOptions options = with(2, 64 << 20);
  options.map_files = true;
  auto plan = make_plan(options);
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  std::filesystem::resize_file(file(), 5'000'000);
  expect_error(load(std::make_shared<const plan::Plan>(*std::move(plan))), Code::io,
               "file changed while reading: " + file() + ": found 5000000 bytes, expected ");
}

TEST_F(OnGpu, TheReportSaysWhereTimeWent) {
  linear("kept", 3000, 512, "");
  write();
  auto model = load_all(with(2, 64 << 20));
  ASSERT_TRUE(model.ok()) << model.error().text();
  std::vector<std::string> elapsed, summed;
  for (const PhaseTime& phase : model->report().phases) {
    (phase.summed ? summed : elapsed).push_back(phase.name);
    EXPECT_GE(phase.seconds, 0) << phase.name;
    if (phase.name != "pin" && phase.name != "read") continue;
    EXPECT_GT(phase.seconds, 0) << phase.name;
    EXPECT_GT(phase.nbytes, 0u) << phase.name;
  }
  EXPECT_EQ(elapsed, (std::vector<std::string>{"allocate", "load", "release", "verify"}));
  EXPECT_EQ(summed, (std::vector<std::string>{"admit", "read", "produce", "end", "pin", "wait",
                                              "idle", "arrive"}));
}

TEST_F(OnGpu, ThePlanSaysWhereEachLayerIsMadeAndWhy) {
  some_layers();
  write();
  auto plan = make_plan(with(2, 64 << 20));
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  const std::pair<const char*, const char*> expected[] = {
      {"double0", ""},
      {"amax0", ""},
      {"value0", ""},
      {"fused", ""},
      {"resident0", "its scales come first"},
      {"checked0", "its codes are checked"},
      {"swapped0", "rows lie apart"},
      {"packed0", "a kernel's layout is made of it"},
      {"elsewhere0", "toy has no kernel that makes it"}};
  for (const auto& [path, why] : expected) {
    const plan::LayerPlan& layer = plan_of(*plan, path);
    EXPECT_EQ(plan::why_made_on_host(*plan, layer), why) << path;
    EXPECT_EQ(plan::made_on_gpu(*plan, layer), std::string(why).empty()) << path;
  }
  EXPECT_FALSE(plan::made_on_gpu(*plan, plan_of(*plan, "kept0")));
  EXPECT_FALSE(plan::made_on_host(*plan, plan_of(*plan, "kept0")));
  EXPECT_EQ(plan->notes.front(),
            "13 layers are quantized on their GPU, piece by piece as they arrive");
  EXPECT_EQ(plan->notes.size(), 6u);
  EXPECT_EQ(plan->peaks.device, plan->peaks.stored_on_devices + plan->peaks.staging);
}

TEST_F(OnGpu, AStatusWordEndsTheLoadWithTheMethodsWords) {
  some_layers();
  linear("bad", 50, 64, "double", on_gpu({{"fail_row", 31}}));
  write();
  auto model = load_all(with(4, 1 << 20));
  expect_error(model, Code::invalid_checkpoint, "asked to fail at row 31");
  EXPECT_NE(model.error().text().find("bad"), std::string::npos) << model.error().text();
}

TEST_F(OnGpu, EveryReadThatFailsStopsTheLoad) {
  some_layers(20);
  write();
  auto made = make_plan(with(3, 64 << 10));
  ASSERT_TRUE(made.ok()) << made.error().text();
  const auto plan = std::make_shared<const plan::Plan>(*std::move(made));
  const uint64_t before = faults().reads;
  ASSERT_TRUE(load(plan).ok());
  const uint64_t reads = faults().reads - before;
  ASSERT_GT(reads, 5u);
  for (uint64_t nth = 1; nth <= reads; ++nth) {
    faults().fail_read = faults().reads + nth;
    expect_error(load(plan), Code::io, "model.safetensors");
    faults().fail_read = 0;
  }
}

TEST_F(OnGpu, CancelStopsEveryPhase) {
  some_layers(20);
  write();
  auto whole = load_all(with(2, 64 << 10));
  ASSERT_TRUE(whole.ok());
  const uint64_t reads = faults().reads;
  for (uint64_t nth = 0; nth <= reads; ++nth) {
    CancelToken token;
    std::atomic<uint64_t> count{0};
    faults().before_read = [&](const std::string&, uint64_t, uint64_t) {
      if (++count == nth) token.cancel();
    };
    if (nth == 0) token.cancel();
    LoadControl control;
    control.cancel = &token;
    expect_error(load_all(with(2, 64 << 10), control), Code::cancelled, "load cancelled");
  }
  faults().before_read = nullptr;
}

}  // namespace
}  // namespace loadstone::load
