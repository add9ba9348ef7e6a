// Layers that dialects read, on the GPU: against the shared layer oracle, and against the same
// calls on the host.
#include <cmath>

#include "common/codecs/half.hpp"
#include "common/testing/layers.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

using common::testing::Json;
using common::testing::Layers;
using common::testing::Random;

constexpr std::string_view kPrefix = "msmodelslim_";

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

/// The case's stored tensors; deq_scale as bits of an I64 where `bits`.
TestLayer oracle_layer(const Json& one, bool bits) {
  const Layers& oracle = Layers::get();
  const std::string name = one["layer"], method = one["method"];
  TestLayer out = oracle.empty(name);
  const std::string own = name + "/" + method + "/", shared = name + "/msmodelslim_w8a8/";
  for (const Json& stored : one["tensors"]) {
    const std::string tensor = stored;
    if (tensor == "deq_scale_int64" || (tensor == "deq_scale" && bits)) continue;
    out.tensor(tensor == "weight_packed" ? "weight" : tensor, oracle.at(own + tensor));
  }
  if (bits) out.tensor("deq_scale", oracle.at(own + "deq_scale_int64"));
  if (method == "msmodelslim_w8a8_dynamic") out.tensor("weight", oracle.at(shared + "weight"));
  return out;
}

TEST(KernelDialects, MsModelSlimOutputsLieWithinTheBounds) {
  NEED_GPU();
  const Layers& oracle = Layers::get();
  if (oracle.absent()) {
    GTEST_SKIP() << "no oracle: " << common::testing::shared_path(Layers::kFile);
  }
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    const std::string method = one["method"], name = one["layer"];
    if (!method.starts_with(kPrefix)) continue;
    const std::string type = upper(method.substr(kPrefix.size()));
    for (const bool bits : {false, true}) {
      if (bits && type != "W8A8") continue;
      Driver driver("msmodelslim");
      driver.configure({{"quant_type", type}});
      TestLayer layer = oracle_layer(one, bits);
      const Answer answer = driver.plan(layer, cuda_target(this_sm()));
      ASSERT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
      Produced produced = driver.produce(layer);
      DeviceLayer device(driver, layer, to_device(produced), answer.work.note, this_sm());
      Driver::Run run = oracle.run(name);
      if (type == "W8A8") run.bias = nullptr;  // quant_bias holds it
      const auto found = device.run(run, LS_DTYPE_F32);
      const auto wanted = oracle.at(name + "/" + method + "/out").as<float>();
      const auto bounds = one["bound_rows"].get<std::vector<double>>();
      // bf16's exact products are cut as they are added.
      const double wide = answer.kernel.find("bf16") != std::string::npos ? 2 : 1;
      double worst = 0;
      for (size_t i = 0; i < wanted.size(); ++i) {
        const double bound = bounds[i / (wanted.size() / bounds.size())] * wide;
        const double error = std::abs(double{found[i]} - wanted[i]);
        worst = std::max(worst, error / std::max(bound, 1e-30));
        ASSERT_LE(error, bound) << name << " " << type << " " << answer.kernel << " at " << i;
      }
      std::printf("  %s %-16s %-40s largest error %.2f of its bound\n", name.c_str(), type.c_str(),
                  answer.kernel.c_str(), worst);
      ++seen;
    }
  }
  EXPECT_GT(seen, 0);
}

/// A serialized layer, how it is read, and how far float32 sums may lie apart.
struct Case {
  std::string title, plugin;
  Json fields;
  TestLayer layer;
  double relative = 2e-5;
  bool has_bias = true;
};

constexpr uint64_t kN = 160, kK = 256;

std::vector<int8_t> codes_of(int low, int high, uint64_t count = kN * kK) {
  Random random(11);
  std::vector<int8_t> out(count);
  for (int8_t& code : out) {
    code = static_cast<int8_t>(low + static_cast<int>(random.bits() % (high - low + 1)));
  }
  return out;
}

std::vector<float> scales_of(uint64_t count) {
  Random random(12);
  std::vector<float> out(count);
  for (float& scale : out) scale = 0.01f + 0.01f * std::abs(random.uniform());
  return out;
}

TestLayer empty(uint64_t n, uint64_t k) {
  TestLayer out;
  out.out = n;
  out.in = k;
  out.part("linear", 0, n);
  return out;
}

TestLayer integers(int low, int high, const std::string& below = "", uint64_t n = kN,
                   uint64_t k = kK) {
  TestLayer out = empty(n, k);
  out.tensor(below + "weight", LS_DTYPE_I8, {n, k}, codes_of(low, high, n * k));
  out.tensor(below + "weight_scale", LS_DTYPE_F32, {n, 1}, scales_of(n));
  return out;
}

/// int8 weights in groups beside int8 activations.
Json grouped(uint64_t group) {
  Json weights = {{"num_bits", 8}, {"type", "int"}, {"strategy", "group"}, {"group_size", group}};
  Json input = {{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
  Json scheme = {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", input}};
  return {{"config_groups", {{"group_0", scheme}}}};
}

TestLayer grouped_integers(uint64_t group) {
  TestLayer out = empty(kN, kK);
  out.tensor("weight", LS_DTYPE_I8, {kN, kK}, codes_of(-128, 127));
  out.tensor("weight_scale", LS_DTYPE_F32, {kN, kK / group}, scales_of(kN * kK / group));
  return out;
}

TestLayer floats(std::vector<uint64_t> scale_shape, uint64_t scales) {
  TestLayer out = empty(kN, kK);
  auto codes = codes_of(-128, 127);
  for (int8_t& code : codes) code = (code & 0x7f) == 0x7f ? 3 : code;
  out.tensor("weight", LS_DTYPE_F8_E4M3, {kN, kK}, codes);
  out.tensor("weight_scale", LS_DTYPE_F32, std::move(scale_shape), scales_of(scales));
  return out;
}

std::vector<Case> cases() {
  constexpr double kFp8 = 1e-3;  // its units sum with fewer bits
  std::vector<Case> out;
  const auto add = [&](std::string title, std::string plugin, Json fields,
                       TestLayer layer) -> Case& {
    out.push_back({std::move(title), std::move(plugin), std::move(fields), std::move(layer)});
    return out.back();
  };
  const auto type = [](const char* name) { return Json({{"quant_type", name}}); };
  const auto algorithm = [](const char* name) { return Json({{"quant_algo", name}}); };
  add("W8A8_DYNAMIC", "msmodelslim", type("W8A8_DYNAMIC"), integers(-128, 127));
  add("W8A8_DYNAMIC, odd", "msmodelslim", type("W8A8_DYNAMIC"), integers(-128, 127, "", 33, 100));
  TestLayer smooth = integers(-128, 127, "linear.");
  smooth.tensor("div.mul_scale", LS_DTYPE_F32, {kK}, scales_of(kK));
  add("W8A8_DYNAMIC, smoothed", "msmodelslim", type("W8A8_DYNAMIC"), std::move(smooth));
  add("W4A4_DYNAMIC", "msmodelslim", type("W4A4_DYNAMIC"), integers(-8, 7));
  add("W8A16", "msmodelslim", type("W8A16"), integers(-128, 127)).relative = 5e-3;  // W in bf16
  TestLayer pairs = empty(kN, kK);
  pairs.tensor("weight", LS_DTYPE_I8, {kN / 2, kK}, codes_of(-128, 127, kN / 2 * kK));
  pairs.tensor("weight_scale", LS_DTYPE_F32, {kN, 1}, scales_of(kN));
  add("W4A8_DYNAMIC, two rows a byte", "msmodelslim", type("W4A8_DYNAMIC"), std::move(pairs));
  for (const uint64_t group : {64, 128}) {
    add("int8 in groups of " + std::to_string(group), "compressed_tensors", grouped(group),
        grouped_integers(group));
  }
  add("WFP8AFP8_DYNAMIC", "msmodelslim", type("WFP8AFP8_DYNAMIC"), floats({kN, 1}, kN)).relative =
      kFp8;
  for (const uint64_t n : {kN, uint64_t{33}}) {
    TestLayer fixed = empty(n, kK);
    fixed.tensor("weight", LS_DTYPE_I8, {n, kK}, codes_of(-128, 127, n * kK));
    fixed.tensor("deq_scale", LS_DTYPE_F32, {n}, scales_of(n));
    fixed.tensor("input_scale", LS_DTYPE_F32, {1}, std::vector<float>{0.02f});
    fixed.tensor("input_offset", LS_DTYPE_F32, {1}, std::vector<float>{-9.0f});
    std::vector<int32_t> constants(n);
    for (uint64_t i = 0; i < n; ++i) constants[i] = static_cast<int32_t>(i * 1000) - 50000;
    fixed.tensor("quant_bias", LS_DTYPE_I32, {n}, constants);
    add("W8A8 of " + std::to_string(n), "msmodelslim", type("W8A8"), std::move(fixed)).has_bias =
        false;
  }
  TestLayer one = floats({}, 1);
  one.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.01f});
  add("FP8", "modelopt", algorithm("FP8"), std::move(one)).relative = kFp8;
  add("FP8_PER_CHANNEL_PER_TOKEN", "modelopt", algorithm("FP8_PER_CHANNEL_PER_TOKEN"),
      floats({kN}, kN))
      .relative = kFp8;
  add("FP8_PB_WO", "modelopt", algorithm("FP8_PB_WO"), floats({2, 1, 2, 1}, 4)).relative = kFp8;
  TestLayer half = floats({kN, 1}, kN), fixed_half = floats({1}, 1);
  std::vector<uint16_t> halves(kN);
  for (uint64_t i = 0; i < kN; ++i) {
    halves[i] = common::bf16_encode(0.01f + 0.0001f * static_cast<float>(i));
  }
  half.sources()[1].dtype = LS_DTYPE_BF16;
  half.sources()[1].bytes.assign(reinterpret_cast<const char*>(halves.data()),
                                 reinterpret_cast<const char*>(halves.data() + kN));
  add("FP8 per row, scales in bf16", "modelopt", algorithm("FP8_PER_CHANNEL_PER_TOKEN"),
      std::move(half))
      .relative = kFp8;
  fixed_half.tensor("input_scale", LS_DTYPE_BF16, {1}, std::vector<uint16_t>{halves[0]});
  add("FP8, input scale in bf16", "modelopt", algorithm("FP8"), std::move(fixed_half)).relative =
      kFp8;
  TestLayer int8 = integers(-128, 127);
  int8.tensor("input_scale", LS_DTYPE_F32, {}, std::vector<float>{0.02f});
  add("W8A8_SQ_PER_CHANNEL", "modelopt", algorithm("W8A8_SQ_PER_CHANNEL"), std::move(int8));
  return out;
}

TEST(KernelDialects, DeviceAndHostAgree) {
  NEED_GPU();
  Random random(5);
  const uint64_t m = 37;
  for (Case& one : cases()) {
    SCOPED_TRACE(one.plugin + " " + one.title);
    Driver driver(one.plugin);
    driver.configure(one.fields);
    const Answer answer = driver.plan(one.layer, cuda_target(this_sm()));
    ASSERT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
    Produced produced = driver.produce(one.layer);
    DeviceLayer device(driver, one.layer, to_device(produced), answer.work.note, this_sm());
    std::vector<uint16_t> x(m * one.layer.in), bias(one.layer.out);
    for (uint16_t& value : x) value = common::bf16_encode(random.uniform() * 2.0f);
    for (uint16_t& value : bias) value = common::bf16_encode(random.uniform());
    Driver::Run run;
    run.x_dtype = run.bias_dtype = LS_DTYPE_BF16;
    run.x = x.data();
    if (one.has_bias) run.bias = bias.data();
    run.m = m;
    run.n = one.layer.out;
    run.k = one.layer.in;
    const auto found = device.run(run, LS_DTYPE_F32);
    const auto wanted = driver.apply(one.layer, produced, run);
    double error = 0, size = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      error += std::pow(double{found[i]} - wanted[i], 2);
      size += std::pow(double{wanted[i]}, 2);
    }
    const double relative = std::sqrt(error / size);
    std::printf("  %-12s %-26s %-44s relative L2 to the host %.1e\n", one.plugin.c_str(),
                one.title.c_str(), answer.kernel.c_str(), relative);
    EXPECT_LT(relative, one.relative);
    EXPECT_GT(size, 0);
  }
}

TEST(KernelDialects, WhatNoKernelDoesIsSaid) {
  Driver driver("compressed_tensors");
  driver.configure(grouped(32));
  TestLayer layer = grouped_integers(32);
  const Answer answer = driver.plan(layer, cuda_target(90));
  EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
  EXPECT_EQ(
      answer.reason,
      "compressed_tensors: groups of 32 columns beside quantized activations have no CUDA kernel");
}

TEST(KernelDialects, GpusWithoutFp8UnitsTakeWeightsAlone) {
  Driver driver("msmodelslim");
  driver.configure({{"quant_type", "WFP8AFP8_DYNAMIC"}});
  TestLayer layer = floats({kN, 1}, kN);
  const Answer answer = driver.plan(layer, cuda_target(80));
  ASSERT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
  EXPECT_EQ(answer.kernel, "fp8_channel_weight_only_cublaslt");
  EXPECT_EQ(answer.reason, "sm80 has no fp8 units: weights only");
  EXPECT_EQ(answer.work.activation_error, 0.0);
}

}  // namespace
}  // namespace loadstone::gpu_kernels
