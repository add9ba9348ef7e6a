// Layers of the plugins on the GPU against the shared layer oracle, and at real sizes against sums
// on the host. Stored tensors are made on the host, as loading does.
#include "common/testing/layers.hpp"

#include <cmath>

#include "common/codecs/half.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

using common::testing::Json;
using common::testing::Layers;
using common::testing::Random;

#define NEED_LAYERS()                                                             \
  if (Layers::get().absent()) {                                                   \
    GTEST_SKIP() << "no oracle: " << common::testing::shared_path(Layers::kFile); \
  }

/// How an oracle method is asked for.
struct Known {
  const char* name;
  const char* plugin;
  const char* method;
  Json fields;
};

const std::vector<Known>& known_methods() {
  static const Json kEverywhere = Json::array({"linear"});
  static const std::vector<Known> all = {
      {"fp8_tensor_token", "fp8", "fp8", {{"weight_granularity", "tensor"}}},
      {"fp8_tensor_tensor",
       "fp8",
       "fp8",
       {{"weight_granularity", "tensor"}, {"activation_granularity", "tensor"}}},
      {"fp8_channel_token", "fp8", "fp8", Json::object()},
      {"fp8_static",
       "fp8",
       "fp8",
       {{"weight_granularity", "tensor"}, {"activation_scheme", "static"}}},
      {"fp8_block128", "fp8", "fp8", {{"weight_block_size", {128, 128}}}},
      {"int8", "int8", "int8", Json::object()},
      {"mxfp8", "mxfp8", "mxfp8", Json::object()},
      {"mxfp8_rceil", "mxfp8", "mxfp8", {{"scale_rule", "rceil"}}},
      {"mxfp4", "mxfp4", "mxfp4", Json::object()},
      {"mxfp4_uos", "mxfp4", "mxfp4", {{"mxfp4_scale_alg", 2}}},
      {"mxfp4_w4a8", "mxfp4", "mxfp4", {{"w4a8_fallback_layers", kEverywhere}}},
      {"mxfp4_uos_w4a8",
       "mxfp4",
       "mxfp4",
       {{"mxfp4_scale_alg", 2}, {"w4a8_fallback_layers", kEverywhere}}},
      {"mxfp4_dualscale", "mxfp4", "mxfp4_dualscale", {{"num_bf16_fallback_layers", 0}}},
  };
  return all;
}

const Known* known(const Json& one) {
  for (const Known& method : known_methods()) {
    if (one["method"] == method.name) return &method;
  }
  return nullptr;
}

/// How much wider than float32 sums in any order a kernel's are. fp8's units sum with fewer bits
/// (numeric-definitions, section 12); bf16's exact products are cut as they are added.
double widening(const std::string& kernel, uint64_t k) {
  const double any_order = static_cast<double>(k + 8) * 0x1p-24;
  if (kernel.find("simt") != std::string::npos || kernel.starts_with("int8")) return 1;
  return std::max(kernel.starts_with("fp8") ? 1.1e-3 / any_order : 2.0, 1.0);
}

TEST(KernelLayers, OutputsLieWithinTheBounds) {
  NEED_GPU();
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  std::map<std::string, double> worst;
  for (const Json& one : oracle.cases()) {
    const Known* method = known(one);
    if (method == nullptr) continue;
    const std::string name = one["layer"];
    Driver driver(method->plugin, method->method);
    driver.configure(method->fields);
    TestLayer layer = oracle.floats(name);
    const std::string input = name + "/" + method->name + "/input_scale";
    if (oracle.has(input)) layer.tensor("input_scale", oracle.at(input));
    const Answer answer = driver.plan(layer, cuda_target(this_sm()));
    ASSERT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
    Produced produced = driver.produce(layer);
    DeviceLayer device(driver, layer, to_device(produced), answer.work.note, this_sm());
    const auto wanted = oracle.at(name + "/" + method->name + "/out").as<float>();
    const auto bounds = one["bound_rows"].get<std::vector<double>>();
    const double wide = widening(answer.kernel, oracle.k(name));
    for (const uint32_t y_dtype : {LS_DTYPE_F32, LS_DTYPE_BF16}) {
      const auto found = device.run(oracle.run(name), y_dtype);
      const uint64_t columns = wanted.size() / bounds.size();
      double& top = worst[answer.kernel + (y_dtype == LS_DTYPE_F32 ? " f32" : " bf16")];
      for (size_t i = 0; i < wanted.size(); ++i) {
        double bound = bounds[i / columns] * wide;
        if (y_dtype == LS_DTYPE_BF16) bound += 0x1p-8 * std::abs(double{wanted[i]});
        const double error = std::abs(double{found[i]} - wanted[i]);
        if (error > 0) top = std::max(top, error / std::max(bound, 1e-30));
        ASSERT_LE(error, bound) << name << " " << method->name << " " << answer.kernel << " row "
                                << i / columns << " column " << i % columns;
      }
    }
  }
  for (const auto& [kernel, ratio] : worst) {
    std::printf("  %-40s largest error %.2f of its bound\n", kernel.c_str(), ratio);
  }
  EXPECT_FALSE(worst.empty());
}

/// A layer of random bf16 weights with outlier rows, and activations for it.
struct Large {
  TestLayer layer;
  std::vector<uint16_t> x;
  std::vector<uint16_t> bias;
  uint64_t m, n, k;

  Large(uint64_t rows, uint64_t out, uint64_t in)
      : x(rows * in), bias(out), m(rows), n(out), k(in) {
    Random random(3);
    std::vector<uint16_t> w(n * k);
    for (uint16_t& one : w) one = common::bf16_encode(random.uniform() * 0.05f);
    for (uint16_t& one : x) one = common::bf16_encode(random.uniform() * 2.0f);
    for (uint16_t& one : bias) one = common::bf16_encode(random.uniform());
    layer.out = n;
    layer.in = k;
    layer.part("linear", 0, n);
    layer.tensor("weight", LS_DTYPE_BF16, {n, k}, w);
  }
  Driver::Run run() const {
    Driver::Run out;
    out.x_dtype = out.bias_dtype = LS_DTYPE_BF16;
    out.x = x.data();
    out.bias = bias.data();
    out.m = m;
    out.n = n;
    out.k = k;
    return out;
  }
};

/// The same calls on the host, row by row of a few: an independent path to the same numbers.
TEST(KernelLayers, RealSizesAgreeWithTheHost) {
  NEED_GPU();
  Large large(300, 1536, 3072);
  for (const Known& method : known_methods()) {
    if (method.fields.contains("activation_scheme")) continue;
    Driver driver(method.plugin, method.method);
    driver.configure(method.fields);
    const Answer answer = driver.plan(large.layer, cuda_target(this_sm()));
    ASSERT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
    Produced produced = driver.produce(large.layer);
    DeviceLayer device(driver, large.layer, to_device(produced), answer.work.note, this_sm());
    const auto found = device.run(large.run(), LS_DTYPE_F32);
    // One scale for all rows: the host sees them all. Else a few are enough.
    Driver::Run few = large.run();
    if (!method.fields.contains("activation_granularity")) few.m = 4;
    const auto wanted = driver.apply(large.layer, produced, few);
    double error = 0, size = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      error += std::pow(double{found[i]} - wanted[i], 2);
      size += std::pow(double{wanted[i]}, 2);
    }
    const double relative = std::sqrt(error / size);
    std::printf("  %-20s %-40s relative L2 to the host %.1e\n", method.name, answer.kernel.c_str(),
                relative);
    EXPECT_LT(relative, answer.kernel.starts_with("fp8") ? 1e-3 : 2e-5) << method.name;
  }
}

/// What a GPU without fp8 units runs gives x·Ŵᵀ of the dequantized weight.
TEST(KernelLayers, WeightOnlyIsTheDequantizedWeight) {
  NEED_GPU();
  Large large(64, 512, 1024);
  Driver driver("fp8");
  for (const Json& fields : {Json::object(), Json({{"weight_granularity", "tensor"}}),
                             Json({{"weight_block_size", {128, 128}}})}) {
    driver.configure(fields);
    const Answer answer = driver.plan(large.layer, cuda_target(80));
    ASSERT_NE(answer.kernel.find("weight_only"), std::string::npos) << answer.kernel;
    EXPECT_EQ(answer.reason, "sm80 has no fp8 units: weights only");
    Produced produced = driver.produce(large.layer);
    DeviceLayer device(driver, large.layer, to_device(produced), answer.work.note, 80);
    const auto weight = driver.dequantize(large.layer, produced, 0, large.n, large.k);
    const auto found = device.run(large.run(), LS_DTYPE_F32);
    for (uint64_t i = 0; i < large.m; i += 7) {
      for (uint64_t j = 0; j < large.n; j += 5) {
        double sum = common::bf16_decode(large.bias[j]), size = std::abs(sum);
        for (uint64_t c = 0; c < large.k; ++c) {
          const float w = common::bf16_decode(common::bf16_encode(weight[j * large.k + c]));
          const double product = double{common::bf16_decode(large.x[i * large.k + c])} * w;
          sum += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(found[i * large.n + j], sum, size * (large.k + 8) * 0x1p-23) << i << " " << j;
      }
    }
  }
}

/// A row that isn't finite gives a row that isn't finite, and no other.
TEST(KernelLayers, RowsThatAreNotFiniteStayVisible) {
  NEED_GPU();
  Large large(6, 256, 512);
  large.x[2 * large.k + 5] = 0x7fc0;
  large.x[4 * large.k + 7] = 0x7f80;
  for (const char* plugin : {"fp8", "int8", "mxfp8", "mxfp4"}) {
    Driver driver(plugin, plugin);
    driver.configure(Json::object());
    const Answer answer = driver.plan(large.layer, cuda_target(this_sm()));
    Produced produced = driver.produce(large.layer);
    DeviceLayer device(driver, large.layer, to_device(produced), answer.work.note, this_sm());
    const auto found = device.run(large.run(), LS_DTYPE_BF16);
    for (size_t i = 0; i < found.size(); ++i) {
      const uint64_t row = i / large.n;
      ASSERT_EQ(std::isfinite(found[i]), row != 2 && row != 4) << plugin << " row " << row;
    }
  }
}

}  // namespace
}  // namespace loadstone::gpu_kernels
