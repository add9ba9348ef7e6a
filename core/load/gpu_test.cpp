// A model on the GPU holds the bytes that it holds in host memory. Needs the GPU; skipped without.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <loadstone/loadstone.hpp>
#include <vector>

#include "device/cuda.hpp"
#include "plan/flow.hpp"

namespace loadstone {
namespace {

/// A folder of the build, or of the pack that LOADSTONE_GPU_PACK names on a machine without it.
std::string built(const std::string& name) {
  const char* pack = std::getenv("LOADSTONE_GPU_PACK");
  return (pack != nullptr ? std::string(pack) : std::string(LOADSTONE_BINARY_DIR)) + "/" + name;
}

std::string source(const std::string& name) {
  return std::getenv("LOADSTONE_GPU_PACK") != nullptr ? name : LOADSTONE_SOURCE_DIR "/" + name;
}

class OnTheGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto found = device::properties(0); !found.ok()) GTEST_SKIP() << found.error().text();
  }

  static Result<std::shared_ptr<const load::LoadedModel>> load(config::LoadSection section,
                                                               const std::string& quantization) {
    LS_TRY(Loader loader,
           Loader::open({{built("plugins")}, built("share/loadstone/model_adapters")}));
    LS_TRY(auto config, loader.make_config(source("examples/models/emoji"), quantization));
    section.threads = 3;
    config.load = std::move(section);
    LS_TRY(auto plan, loader.plan(config));
    return loader.load(plan);
  }

  static config::LoadSection section_of(const std::string& device) {
    config::LoadSection section;
    section.device = device;
    return section;
  }

  static void expect_equal(const load::LoadedModel& host, const load::LoadedModel& gpu) {
    const plan::Plan& plan = host.plan();
    ASSERT_EQ(plan.layers.size(), gpu.plan().layers.size());
    for (uint32_t i = 0; i < plan.layers.size(); ++i) {
      const auto& stored = plan.layers[i].stored;
      for (uint32_t s = 0; s < stored.size(); ++s) {
        const uint64_t nbytes = stored[s].slab_nbytes();
        ASSERT_EQ(nbytes, gpu.plan().layers[i].stored[s].slab_nbytes());
        std::vector<std::byte> back(nbytes);
        ASSERT_GE(gpu.gpu_of(i), 0);
        ASSERT_TRUE(device::read_back(0, gpu.stored(i, s), back.data(), nbytes).ok());
        EXPECT_EQ(std::memcmp(back.data(), host.stored(i, s), nbytes), 0)
            << plan.layer_of(plan.layers[i]).path << ": " << stored[s].name;
      }
    }
  }
};

TEST_F(OnTheGpu, KeptLayersHoldTheBytesOfTheFile) {
  for (uint64_t ring : {uint64_t{0}, uint64_t{64} << 10}) {
    auto section = section_of("cpu");
    section.ring_nbytes = ring;
    auto host = load(section, "");
    ASSERT_TRUE(host.ok()) << host.error().text();
    section.device = "cuda:0";
    auto gpu = load(section, "");
    ASSERT_TRUE(gpu.ok()) << gpu.error().text();
    expect_equal(**host, **gpu);
    const load::Report& report = (*gpu)->report();
    EXPECT_EQ(report.measured_peak_device, report.predicted_peak_device);
    EXPECT_LE(report.measured_peak_host, report.predicted_peak_host + (16u << 20));
  }
}

TEST_F(OnTheGpu, CastsAreMadeBeforeTheyAreSent) {
  for (const char* dtype : {"f32", "bf16", "fp16"}) {
    auto section = section_of("cpu");
    section.dtype = dtype;
    auto host = load(section, "");
    ASSERT_TRUE(host.ok()) << host.error().text();
    section.device = "cuda:0";
    auto gpu = load(section, "");
    ASSERT_TRUE(gpu.ok()) << gpu.error().text();
    expect_equal(**host, **gpu);
  }
}

TEST_F(OnTheGpu, QuantizedLayersHoldTheBytesOfTheHost) {
  if (device::properties(0)->name == "stand-in") GTEST_SKIP() << "kernels need a GPU";
  for (const char* method :
       {"fp8", R"({"method": "fp8", "weight_granularity": "tensor"})",
        R"({"method": "fp8", "weight_block_size": [32, 64]})", "int8", "mxfp8", "mxfp4"}) {
    SCOPED_TRACE(method);
    auto section = section_of("cuda:0");
    auto gpu = load(section, method);
    if (!gpu.ok() && gpu.error().text().find("no CUDA kernel") != std::string::npos) {
      GTEST_SKIP() << "built without nvcc: " << gpu.error().text();
    }
    ASSERT_TRUE(gpu.ok()) << gpu.error().text();
    section.device = "cpu";
    auto host = load(section, method);
    ASSERT_TRUE(host.ok()) << host.error().text();
    expect_equal(**host, **gpu);
    const plan::Plan& plan = (*gpu)->plan();
    EXPECT_GT(std::count_if(plan.layers.begin(), plan.layers.end(),
                            [&](const auto& layer) { return plan::made_on_gpu(plan, layer); }),
              20);
  }
}

}  // namespace
}  // namespace loadstone
