// The layer oracle's cases of what ModelOpt writes: weights and outputs; and every checkpoint of
// the tool, module by module: its weights bit for bit, and saved as they were read.
#include "common/testing/checkpoints.hpp"
#include "common/testing/layers.hpp"

namespace loadstone::modelopt {
namespace {

using namespace common::testing;

/// An algorithm and the oracle's method that it is.
struct Numeric {
  const char *method, *algorithm;
  const char* weights;  // the method that has the stored tensors
  bool quantizes_input;
  const char* layout = "";  // what of the stored tensors ModelOpt writes in another way
};

// The oracle's MX and block cases are other tools' files of the same numbers.
const Numeric kNumerics[] = {
    {"modelopt_fp8", "FP8", "modelopt_fp8", true},
    {"modelopt_fp8_pc_pt", "FP8_PER_CHANNEL_PER_TOKEN", "modelopt_fp8_pc_pt", true},
    {"modelopt_w4a16_awq", "W4A16_AWQ", "modelopt_w4a16_awq", false},
    {"nvfp4", "NVFP4", "nvfp4", true},
    {"nvfp4_w4a16", "W4A16_NVFP4", "nvfp4", false},
    {"mxfp8", "MXFP8", "mxfp8", true},
    {"mxfp4", "MXFP4", "mxfp4", true, "packed"},
    {"mxfp4_w4a8", "W4A8_MXFP4_FP8", "mxfp4", true, "packed"},
    {"fp8_block128", "FP8_PB_WO", "fp8_block128", true, "blocks"},
};

/// The case's layer as ModelOpt stores it.
TestLayer layer_of(const Numeric& numeric, const std::string& name) {
  const Layers& oracle = Layers::get();
  const std::string at = name + "/" + numeric.weights + "/", layout = numeric.layout;
  TestLayer out = oracle.empty(name);
  const auto add = [&](const std::string& stored, const std::string& from) {
    if (oracle.has(at + from)) out.tensor(stored, oracle.at(at + from));
  };
  add("weight", layout == "packed" ? "weight_packed" : "weight");
  if (layout == "blocks") {
    const Tensor& scale = oracle.at(at + "weight_scale_inv");
    out.tensor("weight_scale", LS_DTYPE_F32, {scale.shape[0], 1, scale.shape[1], 1}, scale.bytes);
  } else {
    add("weight_scale", "weight_scale");
  }
  for (const char* more : {"weight_scale_2", "input_scale", "pre_quant_scale"}) add(more, more);
  return out;
}

TEST(ModelOptOracle, WeightsAndOutputs) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("modelopt");
  std::map<std::string, int> seen;
  for (const Json& one : oracle.cases()) {
    const std::string name = one["layer"], method = one["method"];
    for (const Numeric& numeric : kNumerics) {
      if (method != numeric.method) continue;
      SCOPED_TRACE(name + " " + method + " as " + numeric.algorithm);
      driver.configure({{"quant_algo", numeric.algorithm}});
      TestLayer layer = layer_of(numeric, name);
      Produced produced = driver.produce(layer);
      const auto weight = driver.dequantize(layer, produced, 0, layer.out, layer.in);
      const auto stored = driver.raw_weight(layer, produced);
      EXPECT_EQ(fnv1a64(stored), one["dequant_fnv1a64"]);
      oracle.expect_output(one, driver.apply(layer, produced, oracle.run(name)));
      if (numeric.quantizes_input) {
        EXPECT_GT(oracle.worst(one, oracle.weight_only(name, weight)), 1.0)
            << "the case can't tell quantized activations from plain ones";
      }
      ++seen[method];
    }
  }
  for (const Numeric& numeric : kNumerics) EXPECT_GT(seen[numeric.method], 0) << numeric.method;
}

TEST(ModelOptOracle, WhatDoesNotFitIsRefused) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("modelopt");
  int seen = 0;
  for (const Json& one : oracle.refusals()) {
    if (one["method"] != "fp8_block128") continue;
    const std::string name = one["layer"];
    SCOPED_TRACE(name);
    const uint64_t n = oracle.n(name), k = oracle.k(name);
    const uint64_t rows = (n + 127) / 128, columns = (k + 127) / 128;
    driver.configure({{"quant_algo", "FP8_PB_WO"}});
    TestLayer layer = oracle.empty(name);
    layer.tensor("weight", LS_DTYPE_F8_E4M3, {n, k}, std::vector<uint8_t>(n * k, 0x38));
    layer.tensor("weight_scale", LS_DTYPE_F32, {rows, 1, columns, 1},
                 std::vector<float>(rows * columns, 1.0f));
    // One block is one scale, which such layers are written with.
    if (rows * columns == 1) continue;
    const Answer answer = driver.plan(layer);
    EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
    EXPECT_EQ(answer.reason,
              "modelopt: found K = " + std::to_string(k) + ", expected a multiple of 128");
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

TEST(ModelOptOracle, CheckpointsDequantizeToTheirTruthAndAreSavedAsTheyCame) {
  expect_checkpoints_of("modelopt", "modelopt");
}

}  // namespace
}  // namespace loadstone::modelopt
