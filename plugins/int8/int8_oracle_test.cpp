// The plugin against the shared oracles: every int8 case of layers.json, exact when the stated
// order is kept, and every serialized int8 checkpoint.
#include "common/numerics/int8.hpp"
#include "common/testing/checkpoints.hpp"
#include "common/testing/layers.hpp"

namespace loadstone::int8 {
namespace {

using namespace common::testing;

template <typename Body>
void for_each_case(Body&& body) {
  int seen = 0;
  for (const Json& one : Layers::get().cases()) {
    if (one["method"] != "int8") continue;
    SCOPED_TRACE(one["layer"].get<std::string>());
    body(one, one["layer"].get<std::string>());
    ++seen;
  }
  EXPECT_GT(seen, 0) << "no int8 case in " << Layers::kFile;
}

void expect_case(Driver& driver, const Json& one, const std::string& name, TestLayer& layer) {
  const Layers& oracle = Layers::get();
  Produced produced = driver.produce(layer, 3);
  EXPECT_EQ(produced.named("weight").as<char>(), oracle.at(name + "/int8/weight").bytes);
  EXPECT_EQ(produced.named("weight_scale").as<char>(),
            oracle.at(name + "/int8/weight_scale").bytes);
  const auto dequant = driver.dequantize(layer, produced, 0, layer.out, layer.in);
  EXPECT_EQ(fnv1a64(dequant), one["dequant_fnv1a64"]);
  const auto found = driver.apply(layer, produced, oracle.run(name));
  EXPECT_EQ(found, oracle.at(name + "/int8/out").as<float>()) << "the stated order is exact";
  oracle.expect_output(one, found);
  EXPECT_GT(oracle.worst(one, oracle.weight_only(name, dequant)), 1.0);
}

TEST(Int8Oracle, OnlineWeightsAndOutputsAreExact) {
  if (Layers::get().absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("int8");
  driver.configure(Json::object());
  for_each_case([&](const Json& one, const std::string& name) {
    TestLayer layer = Layers::get().floats(name);
    expect_case(driver, one, name, layer);
  });
}

TEST(Int8Oracle, SerializedWeightsAndOutputsAreExact) {
  if (Layers::get().absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("int8");
  driver.configure({{"is_checkpoint_int8_serialized", true}});
  for_each_case([&](const Json& one, const std::string& name) {
    TestLayer layer = Layers::get().empty(name);
    layer.tensor("weight", Layers::get().at(name + "/int8/weight"));
    layer.tensor("weight_scale", Layers::get().at(name + "/int8/weight_scale"));
    expect_case(driver, one, name, layer);
  });
}

TEST(Int8Oracle, ActivationCodesAndScalesAreExact) {
  if (Layers::get().absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  for_each_case([&](const Json& one, const std::string& name) {
    const Driver::Run run = Layers::get().run(name);
    std::vector<float> x(run.m * run.k), values(run.m * run.k);
    common::widen(run.x_dtype, run.x, x.data(), x.size());
    std::vector<int8_t> codes(x.size());
    std::vector<float> scales(run.m);
    for (uint64_t i = 0; i < run.m; ++i) {
      scales[i] = common::int8_quantize_row(&x[i * run.k], &codes[i * run.k], run.k);
      common::int8_dequantize(&codes[i * run.k], scales[i], &values[i * run.k], run.k);
    }
    EXPECT_EQ(codes, Layers::get().at(name + "/int8/x_q").as<int8_t>());
    EXPECT_EQ(scales, Layers::get().at(name + "/int8/x_scale").as<float>());
    EXPECT_EQ(fnv1a64(values), one["act_fnv1a64"]);
  });
}

TEST(Int8Oracle, CheckpointsDequantizeToTheirTruthAndAreSavedAsTheyCame) {
  expect_checkpoints_of("int8", "int8");
}

}  // namespace
}  // namespace loadstone::int8
