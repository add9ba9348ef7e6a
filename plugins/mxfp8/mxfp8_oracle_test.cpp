// The plugin against the shared oracles: the mxfp8 cases of layers.json, and serialized
// checkpoints.
#include "common/numerics/mx.hpp"
#include "common/testing/mx_cases.hpp"

namespace loadstone::mxfp8 {
namespace {

using namespace common::testing;

const std::vector<MxCase>& cases() {
  static const std::vector<MxCase> all = {
      {"mxfp8", "mxfp8", Json::object(), "mxfp8"},
      {"mxfp8_rceil", "mxfp8", {{"scale_rule", "rceil"}}, "mxfp8_rceil"},
  };
  return all;
}

TEST(Mxfp8Oracle, OnlineCodesScalesAndOutputs) {
  if (Layers::get().absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("mxfp8");
  for_each_mx_case(cases(), [&](const Json& one, const MxCase& known, const std::string& name) {
    driver.configure(known.fields);
    TestLayer layer = Layers::get().floats(name);
    for (const uint32_t seed : {1u, 2u}) {
      Produced produced = driver.produce(layer, seed);
      const std::string base = name + "/" + known.weight_of + "/";
      expect_stored(produced, "weight", base + "weight");
      expect_stored(produced, "weight_scale", base + "weight_scale");
      const auto dequant = driver.dequantize(layer, produced, 0, layer.out, layer.in);
      EXPECT_EQ(fnv1a64(dequant), one["dequant_fnv1a64"]);
      expect_mx_output(driver, one, name, layer, produced);
    }
  });
}

TEST(Mxfp8Oracle, SerializedFormsGiveTheSameBytesAndOutputs) {
  if (Layers::get().absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("mxfp8");
  for_each_mx_case(cases(), [&](const Json& one, const MxCase& known, const std::string& name) {
    const std::string base = name + "/" + known.weight_of + "/";
    if (!Layers::get().has(base + "weight")) return;  // its codes are in the hash alone
    Json fields = known.fields;
    fields["is_checkpoint_mxfp8_serialized"] = true;
    driver.configure(fields);
    TestLayer layer = Layers::get().empty(name);
    layer.tensor("weight", Layers::get().at(base + "weight"));
    layer.tensor("weight_scale", Layers::get().at(base + "weight_scale"));
    Produced produced = driver.produce(layer);
    expect_stored(produced, "weight", base + "weight");
    const auto dequant = driver.dequantize(layer, produced, 0, layer.out, layer.in);
    EXPECT_EQ(fnv1a64(dequant), one["dequant_fnv1a64"]);
    expect_mx_output(driver, one, name, layer, produced);
  });
}

TEST(Mxfp8Oracle, ActivationsAreExact) {
  if (Layers::get().absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  for_each_mx_case(cases(), [&](const Json& one, const MxCase& known, const std::string& name) {
    const Driver::Run run = Layers::get().run(name);
    const uint64_t k = run.k, groups = common::mx_groups(k);
    std::vector<float> x(run.m * k), values(run.m * k);
    common::widen(run.x_dtype, run.x, x.data(), x.size());
    std::vector<uint8_t> codes(run.m * k), scales(run.m * groups);
    const bool rceil = known.fields.contains("scale_rule");
    const auto rule = rceil ? common::MxRule::rceil : common::MxRule::ocp;
    for (uint64_t i = 0; i < run.m; ++i) {
      common::mx_quantize(rule, common::MxElement::e4m3, &x[i * k], &codes[i * k],
                          &scales[i * groups], k);
      common::mx_dequantize(common::MxElement::e4m3, &codes[i * k], &scales[i * groups],
                            &values[i * k], k);
    }
    EXPECT_EQ(fnv1a64(values), one["act_fnv1a64"]);
    const std::string stored = name + "/" + known.name + "/x_scale";
    if (Layers::get().has(stored)) {
      EXPECT_EQ(scales, Layers::get().at(stored).as<uint8_t>());
    }
  });
}

TEST(Mxfp8Oracle, CheckpointsDequantizeToTheirTruth) {
  const auto claim_of = [](const CheckpointFolder& folder) -> int {
    const Json says = folder.declaration();
    if (!says.is_object()) return -1;
    if (says.value("quant_method", "") == "mxfp8") return 0;
    const bool auto_round = says.value("quant_method", "") == "auto-round";
    return auto_round && says.value("data_type", "") == "mx_fp" && says.value("bits", 0) == 8 ? 1
                                                                                              : -1;
  };
  const auto folders =
      find_checkpoints([&](const CheckpointFolder& folder) { return claim_of(folder) >= 0; });
  if (folders.empty()) GTEST_SKIP() << "no checkpoints: " << shared_path("checkpoints");
  Driver driver("mxfp8");
  for (const CheckpointFolder& folder : folders) {
    const auto claim = static_cast<uint64_t>(claim_of(folder));
    const Declared declared = driver.read_declaration(folder.declaration(), claim);
    expect_checkpoint(driver, folder, declared);
  }
}

}  // namespace
}  // namespace loadstone::mxfp8
