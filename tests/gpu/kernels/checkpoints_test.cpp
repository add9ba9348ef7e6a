// Every shared checkpoint of a dialect, module by module: what plans for GPUs say, and the layer on
// the GPU against the same call on the host.
#include "common/testing/checkpoints.hpp"

#include <cmath>

#include "common/codecs/half.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

using common::testing::CheckpointFolder;
using common::testing::Declared;
using common::testing::find_checkpoints;
using common::testing::Json;
using common::testing::Random;

/// The plugin that reads a declaration, or "".
std::string plugin_of(const CheckpointFolder& folder) {
  const Json declaration = folder.declaration();
  const std::string by = declaration.is_object() ? declaration.value("quant_method", "") : "";
  if (by == "compressed-tensors") return "compressed_tensors";
  if (by == "modelopt") return "modelopt";
  if (by != "auto-round") return by == "gptq" || by == "awq" ? "autoround" : "";
  const std::string type = declaration.value("data_type", "int");  // other types have other plugins
  return type == "int" || type == "nv_fp" ? "autoround" : "";
}

/// Runs body(title, driver, layer) for one module of every scheme of every checkpoint.
template <typename Body>
int for_modules(const Body& body) {
  int folders = 0;
  for (const CheckpointFolder& folder :
       find_checkpoints([](const CheckpointFolder& one) { return !plugin_of(one).empty(); })) {
    SCOPED_TRACE(folder.name());
    Driver driver(plugin_of(folder));
    const Declared declared = driver.read_declaration(folder.declaration());
    std::map<std::string, int> seen;
    for (const auto& [module, scheme] : folder.expect()["layers"].items()) {
      if (seen[scheme.dump()]++ > 1) continue;
      SCOPED_TRACE(module);
      driver.configure(declared.of(module));
      TestLayer layer = folder.layer(module);
      layer.show_values();
      body(std::filesystem::path(folder.name()).filename().string(), driver, layer);
      if (testing::Test::HasFatalFailure()) return folders;
    }
    ++folders;
  }
  return folders;
}

TEST(KernelCheckpoints, EveryPlanHasAKernelOrAReason) {
  int taken = 0;
  const int folders = for_modules([&](const std::string& title, Driver& driver, TestLayer& layer) {
    for (const uint32_t sm : {80, 90}) {
      const Answer answer = driver.plan(layer, cuda_target(sm));
      if (answer.work.verdict == LS_VERDICT_QUANTIZE) {
        EXPECT_NE(answer.kernel, "");
        ++taken;
        continue;
      }
      EXPECT_NE(answer.reason.find("no CUDA kernel"), std::string::npos) << answer.reason;
      std::printf("  %-28s sm%u: %s\n", title.c_str(), sm, answer.reason.c_str());
    }
  });
  if (folders == 0)
    GTEST_SKIP() << "no checkpoints: " << common::testing::shared_path("checkpoints");
  EXPECT_GT(taken, 0);
}

double relative_error(const std::vector<float>& found, const std::vector<float>& wanted) {
  double error = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(double{found[i]} - wanted[i], 2);
    size += std::pow(double{wanted[i]}, 2);
  }
  return std::sqrt(error / size);
}

/// A product with the identity in float32 is the weight as it was decoded: the host's, bit for bit.
TEST(KernelCheckpoints, WeightsAloneAreTheHosts) {
  NEED_GPU();
  std::map<std::string, int> seen;
  const int folders = for_modules([&](const std::string& title, Driver& driver, TestLayer& layer) {
    const Answer answer = driver.plan(layer, cuda_target(this_sm()));
    const std::string& kernel = answer.kernel;
    const bool packed = kernel.starts_with("gptq_") || kernel.starts_with("awq_");
    if (kernel.find("weight_only") == std::string::npos && !packed) return;
    Produced produced = driver.produce(layer);
    DeviceLayer device(driver, layer, to_device(produced), answer.work.note, this_sm());
    std::vector<float> x(layer.in * layer.in);
    for (uint64_t i = 0; i < layer.in; ++i) x[i * layer.in + i] = 1.0f;
    Driver::Run run;
    run.x_dtype = LS_DTYPE_F32;
    run.x = x.data();
    run.m = run.k = layer.in;
    run.n = layer.out;
    const auto found = device.run(run, LS_DTYPE_F32);
    // With the smoothing of the activation, where there is one.
    const auto wanted = driver.dequantize(layer, produced, 0, layer.out, layer.in);
    for (uint64_t n = 0; n < layer.out; ++n) {
      for (uint64_t k = 0; k < layer.in; ++k) {
        ASSERT_EQ(found[k * layer.out + n], wanted[n * layer.in + k])
            << title << " " << kernel << " row " << n << " column " << k;
      }
    }
    ++seen[kernel];
  });
  if (folders == 0)
    GTEST_SKIP() << "no checkpoints: " << common::testing::shared_path("checkpoints");
  for (const auto& [kernel, count] : seen) {
    std::printf("  %-44s %3d weights equal\n", kernel.c_str(), count);
  }
  EXPECT_FALSE(seen.empty());
}

TEST(KernelCheckpoints, DeviceAndHostAgree) {
  NEED_GPU();
  std::map<std::string, std::pair<int, double>> worst;  // by kernel: layers, largest error
  const int folders = for_modules([&](const std::string& title, Driver& driver, TestLayer& layer) {
    const Answer answer = driver.plan(layer, cuda_target(this_sm()));
    if (answer.work.verdict != LS_VERDICT_QUANTIZE) return;
    Produced produced = driver.produce(layer);
    DeviceLayer device(driver, layer, to_device(produced), answer.work.note, this_sm());
    for (const uint64_t m : {5, 40}) {
      Random random(static_cast<uint32_t>(m));
      std::vector<uint16_t> x(m * layer.in);
      for (uint16_t& value : x) value = common::bf16_encode(random.uniform() * 2.0f);
      Driver::Run run;
      run.x_dtype = LS_DTYPE_BF16;
      run.x = x.data();
      run.m = m;
      run.n = layer.out;
      run.k = layer.in;
      const double error =
          relative_error(device.run(run, LS_DTYPE_F32), driver.apply(layer, produced, run));
      auto& [count, top] = worst[answer.kernel];
      ++count;
      top = std::max(top, error);
      // A decoded weight is rounded to bf16; fp8's units sum with fewer bits.
      const bool decoded = answer.kernel.find("_bf16") == std::string::npos;
      ASSERT_LT(error, decoded ? 5e-3 : 2e-5) << title << " " << answer.kernel << " m " << m;
    }
  });
  if (folders == 0)
    GTEST_SKIP() << "no checkpoints: " << common::testing::shared_path("checkpoints");
  for (const auto& [kernel, of] : worst) {
    std::printf("  %-44s %3d layers, relative L2 to the host %.1e\n", kernel.c_str(), of.first,
                of.second);
  }
  EXPECT_FALSE(worst.empty());
}

}  // namespace
}  // namespace loadstone::gpu_kernels
