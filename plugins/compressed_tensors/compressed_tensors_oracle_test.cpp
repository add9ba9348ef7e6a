// The layer oracle's compressed-tensors cases, and every checkpoint of the tool: module by module,
// its own weights bit for bit.
#include "common/testing/checkpoints.hpp"
#include "common/testing/layers.hpp"

namespace loadstone::compressed_tensors {
namespace {

using namespace common::testing;

constexpr std::string_view kPrefix = "ct_";

/// The scheme that a case of the oracle is of.
Json scheme_of(const Json& one) {
  const std::string method = one["method"];
  Json weights = {{"num_bits", 4}, {"type", "int"}, {"strategy", "group"}};
  Json input;
  if (method.find("int_quantized") != std::string::npos) {
    weights = {{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}};
    input = {{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
  } else if (method.find("nvfp4") != std::string::npos) {
    weights = {{"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}};
    weights["group_size"] = 16;
  } else {
    weights["group_size"] = one["group_size"];
    if (one.contains("bits")) weights["num_bits"] = one["bits"];
    if (one.contains("sym")) weights["symmetric"] = one["sym"];
  }
  return {
      {"group_0", {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", input}}}};
}

TEST(CompressedTensorsOracle, WeightsAndOutputs) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("compressed_tensors");
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    const std::string method = one["method"], name = one["layer"];
    if (method.rfind(kPrefix, 0) != 0) continue;
    SCOPED_TRACE(name + " " + method);
    driver.configure({{"config_groups", scheme_of(one)}});
    TestLayer layer = oracle.empty(name);
    for (const Json& stored : one["tensors"]) {
      const std::string suffix = stored;
      layer.tensor(suffix, oracle.at(name + "/" + method + "/" + suffix));
    }
    layer.show_values();
    Produced produced = driver.produce(layer);
    const auto weight = driver.dequantize(layer, produced, 0, layer.out, layer.in);
    EXPECT_EQ(fnv1a64(weight), one["dequant_fnv1a64"]);
    oracle.expect_output(one, driver.apply(layer, produced, oracle.run(name)));
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

TEST(CompressedTensorsOracle, CheckpointsDequantizeToTheirTruthAndAreSavedAsTheyCame) {
  expect_checkpoints_of("compressed_tensors", "compressed-tensors");
}

}  // namespace
}  // namespace loadstone::compressed_tensors
