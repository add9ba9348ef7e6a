// The layer oracle's msModelSlim cases: weights, and outputs of quantized activations.
#include "common/testing/layers.hpp"

namespace loadstone::msmodelslim {
namespace {

using namespace common::testing;

constexpr std::string_view kPrefix = "msmodelslim_";

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

/// The oracle's cases of this tool, with the type they are of.
std::vector<std::pair<Json, std::string>> cases() {
  std::vector<std::pair<Json, std::string>> out;
  for (const Json& one : Layers::get().cases()) {
    const std::string method = one["method"];
    if (method.rfind(kPrefix, 0) == 0) {
      out.emplace_back(one, upper(method.substr(kPrefix.size())));
    }
  }
  return out;
}

/// The case's stored tensors, and under their file names those that another case of its layer has.
TestLayer layer_of(const Json& one, const std::string& type) {
  const Layers& oracle = Layers::get();
  const std::string name = one["layer"], method = one["method"];
  TestLayer out = oracle.empty(name);
  const auto add = [&](const std::string& stored, const std::string& from) {
    if (!oracle.has(name + "/" + from + "/" + stored)) return;
    const Tensor& tensor = oracle.at(name + "/" + from + "/" + stored);
    out.tensor(stored == "weight_packed" ? "weight" : stored, tensor);
  };
  for (const Json& stored : one["tensors"]) {
    if (stored != "deq_scale_int64") add(stored, method);
  }
  if (type == "W8A8_DYNAMIC") add("weight", "msmodelslim_w8a8");
  return out;
}

class MsModelSlimOracle : public ::testing::Test {
 protected:
  Driver driver{"msmodelslim"};
};

TEST_F(MsModelSlimOracle, WeightsAndOutputs) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  for (const auto& [one, type] : cases()) {
    const std::string name = one["layer"];
    SCOPED_TRACE(name + " " + type);
    driver.configure({{"quant_type", type}});
    TestLayer layer = layer_of(one, type);
    Produced produced = driver.produce(layer);
    const auto weight = driver.dequantize(layer, produced, 0, layer.out, layer.in);
    // W8A8 has no weight_scale: what follows from deq_scale differs from it in the last bit.
    if (type != "W8A8") {
      EXPECT_EQ(fnv1a64(weight), one["dequant_fnv1a64"]);
    }
    Driver::Run run = oracle.run(name);
    if (type == "W8A8") {
      EXPECT_EQ(produced.answer.work.bias, uint32_t{LS_BIAS_BY_METHOD});
      run.bias = nullptr;
    }
    oracle.expect_output(one, driver.apply(layer, produced, run));
    EXPECT_GT(oracle.worst(one, oracle.weight_only(name, weight)), 1.0)
        << "the case can't tell quantized activations from plain ones";
  }
  EXPECT_FALSE(cases().empty());
}

TEST_F(MsModelSlimOracle, DeqScaleAsBitsOfAnInt64IsTheSame) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  int seen = 0;
  for (const auto& [one, type] : cases()) {
    const std::string name = one["layer"];
    const std::string bits = name + "/msmodelslim_w8a8/deq_scale_int64";
    if (type != "W8A8" || !oracle.has(bits)) continue;
    SCOPED_TRACE(name);
    driver.configure({{"quant_type", type}});
    TestLayer floats = layer_of(one, type), integers = layer_of(one, type);
    auto& sources = integers.sources();
    std::erase_if(sources, [](const auto& source) { return source.name == "deq_scale"; });
    integers.tensor("deq_scale", oracle.at(bits));
    Produced a = driver.produce(floats), b = driver.produce(integers);
    EXPECT_EQ(driver.dequantize(floats, a, 0, floats.out, floats.in),
              driver.dequantize(integers, b, 0, floats.out, floats.in));
    Driver::Run run = oracle.run(name);
    run.bias = nullptr;
    EXPECT_EQ(driver.apply(floats, a, run), driver.apply(integers, b, run));
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace loadstone::msmodelslim
