// The plugin against the shared oracles: the mxfp4 and dual-scale cases of layers.json, and
// serialized checkpoints.
#include "common/codecs/half.hpp"
#include "common/numerics/dual.hpp"
#include "common/numerics/mx.hpp"
#include "common/testing/mx_cases.hpp"

namespace loadstone::mxfp4 {
namespace {

using namespace common::testing;

/// All layers of the oracle are called "linear".
const Json kEverywhere = Json::array({"linear"});

const std::vector<MxCase>& online() {
  static const std::vector<MxCase> all = {
      {"mxfp4", "mxfp4", Json::object(), "mxfp4"},
      {"mxfp4_uos", "mxfp4", {{"mxfp4_scale_alg", 2}}, "mxfp4_uos"},
      {"mxfp4_w4a8", "mxfp4", {{"w4a8_fallback_layers", kEverywhere}}, "mxfp4"},
      {"mxfp4_uos_w4a8",
       "mxfp4",
       {{"mxfp4_scale_alg", 2}, {"w4a8_fallback_layers", kEverywhere}},
       "mxfp4_uos"},
      {"mxfp4_dualscale", "mxfp4_dualscale", {{"num_bf16_fallback_layers", 0}}, "mxfp4_dualscale"},
  };
  return all;
}

bool absent() { return Layers::get().absent(); }

TEST(Mxfp4Oracle, OnlineCodesScalesAndOutputs) {
  if (absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  for_each_mx_case(online(), [&](const Json& one, const MxCase& known, const std::string& name) {
    Driver driver("mxfp4", known.method);
    driver.configure(known.fields);
    TestLayer layer = Layers::get().floats(name);
    for (const uint32_t seed : {1u, 2u}) {
      Produced produced = driver.produce(layer, seed);
      const std::string base = name + "/" + known.weight_of + "/";
      expect_stored(produced, "weight", base + "weight_packed");
      expect_stored(produced, "weight_scale", base + "weight_scale");
      if (known.method == std::string("mxfp4_dualscale")) {
        expect_stored(produced, "weight_dual_scale", base + "weight_dual_scale");
      }
      const auto dequant = driver.dequantize(layer, produced, 0, layer.out, layer.in);
      EXPECT_EQ(fnv1a64(dequant), one["dequant_fnv1a64"]);
      expect_mx_output(driver, one, name, layer, produced);
    }
  });
}

/// The stored forms of one weight: packed codes, and the values as e4m3.
std::vector<TestLayer> serialized_forms(const std::string& name, const std::string& base,
                                        bool dual) {
  const Layers& oracle = Layers::get();
  const auto packed = oracle.at(base + "weight_packed").as<uint8_t>();
  const uint64_t n = oracle.n(name), k = oracle.k(name);
  std::vector<uint8_t> values(n * k);
  constexpr uint8_t kE4m3[] = {0x00, 0x30, 0x38, 0x3c, 0x40, 0x44, 0x48, 0x4c};
  for (uint64_t i = 0; i < n * k; ++i) {
    const uint32_t code = (packed[i / 2] >> (i % 2 * 4)) & 15u;
    values[i] = static_cast<uint8_t>(kE4m3[code & 7] | (code & 8u) << 4);
  }
  std::vector<TestLayer> out;
  for (int form = 0; form < 2; ++form) {
    TestLayer layer = oracle.empty(name);
    if (form == 0) {
      layer.tensor("weight", LS_DTYPE_U8, {n, k / 2}, packed);
    } else {
      layer.tensor("weight", LS_DTYPE_F8_E4M3, {n, k}, values);
    }
    layer.tensor("weight_scale", oracle.at(base + "weight_scale"));
    if (dual) layer.tensor("weight_dual_scale", oracle.at(base + "weight_dual_scale"));
    out.push_back(std::move(layer));
  }
  return out;
}

/// Every case with a stored weight, smoothing included.
const std::vector<MxCase>& serialized() {
  static const Json flag = {{"is_checkpoint_mxfp4_serialized", true}};
  static const Json dual_flag = {{"is_checkpoint_serialized", true}};
  static const std::vector<MxCase> all = {
      {"mxfp4", "mxfp4", flag, "mxfp4"},
      {"mxfp4_uos",
       "mxfp4",
       {{"is_checkpoint_mxfp4_serialized", true}, {"mxfp4_scale_alg", 2}},
       "mxfp4_uos"},
      {"mxfp4_w4a8",
       "mxfp4",
       {{"is_checkpoint_mxfp4_serialized", true}, {"w4a8_fallback_layers", kEverywhere}},
       "mxfp4"},
      {"mxfp4_smooth",
       "mxfp4",
       {{"is_checkpoint_mxfp4_serialized", true}, {"require_smooth_scale", true}},
       "mxfp4"},
      {"mxfp4_dualscale", "mxfp4_dualscale", dual_flag, "mxfp4_dualscale"},
      {"mxfp4_dualscale_smooth", "mxfp4_dualscale", dual_flag, "mxfp4_dualscale"},
  };
  return all;
}

TEST(Mxfp4Oracle, SerializedFormsGiveTheSameBytesAndOutputs) {
  if (absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  for_each_mx_case(
      serialized(), [&](const Json& one, const MxCase& known, const std::string& name) {
        const bool dual = known.method == std::string("mxfp4_dualscale");
        const std::string base = name + "/" + known.weight_of + "/";
        const std::string mul = name + "/" + known.name + "/mul_scale";
        Driver driver("mxfp4", known.method);
        driver.configure(known.fields);
        for (TestLayer& layer : serialized_forms(name, base, dual)) {
          if (Layers::get().has(mul)) layer.tensor("mul_scale", Layers::get().at(mul));
          Produced produced = driver.produce(layer, 5);
          expect_stored(produced, "weight", base + "weight_packed");
          EXPECT_EQ(fnv1a64(driver.raw_weight(layer, produced)), one["dequant_fnv1a64"]);
          Layers::get().expect_output(one, driver.apply(layer, produced, Layers::get().run(name)));
        }
      });
}

TEST(Mxfp4Oracle, ActivationsAreExact) {
  if (absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  std::vector<MxCase> all = online();
  all.push_back({"mxfp4_smooth", "mxfp4", Json::object(), "mxfp4"});
  for_each_mx_case(all, [&](const Json& one, const MxCase& known, const std::string& name) {
    const Driver::Run run = Layers::get().run(name);
    const uint64_t k = run.k, groups = common::mx_groups(k);
    std::vector<float> x(run.m * k), values(run.m * k);
    common::widen(run.x_dtype, run.x, x.data(), x.size());
    const std::string mul_name = name + "/" + known.name + "/mul_scale";
    const bool w4a8 = known.fields.contains("w4a8_fallback_layers");
    const bool uos = known.fields.contains("mxfp4_scale_alg") && !w4a8;
    const auto element = w4a8 ? common::MxElement::e4m3 : common::MxElement::e2m1;
    const auto rule = uos ? common::MxRule::uos : common::MxRule::ocp;
    const auto round = [](float value) { return common::bf16_decode(common::bf16_encode(value)); };
    if (Layers::get().has(mul_name)) {  // both bf16, the product rounded to bf16
      const auto mul = Layers::get().at(mul_name).as<float>();
      for (size_t i = 0; i < x.size(); ++i) x[i] = round(x[i] * round(mul[i % k]));
    }
    std::vector<uint8_t> codes(k), scales(groups);
    std::vector<float> outer(k / common::kDualGroup + 1);
    for (uint64_t i = 0; i < run.m; ++i) {
      if (known.method == std::string("mxfp4_dualscale")) {
        common::dual_quantize(common::DualDtype::bf16, &x[i * k], codes.data(), scales.data(),
                              outer.data(), k);
        common::dual_dequantize(codes.data(), scales.data(), outer.data(), &values[i * k], k);
      } else {
        common::mx_quantize(rule, element, &x[i * k], codes.data(), scales.data(), k);
        common::mx_dequantize(element, codes.data(), scales.data(), &values[i * k], k);
      }
    }
    EXPECT_EQ(fnv1a64(values), one["act_fnv1a64"]);
  });
}

TEST(Mxfp4Oracle, StepsChooseTheActivation) {
  if (absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  const Json* w4a4 = nullptr;
  const Json* w4a8 = nullptr;
  for (const Json& one : Layers::get().cases()) {
    if (one["method"] == "mxfp4") w4a4 = &one;
    if (w4a4 != nullptr && one["method"] == "mxfp4_w4a8" && one["layer"] == (*w4a4)["layer"]) {
      w4a8 = &one;
    }
  }
  ASSERT_TRUE(w4a4 != nullptr && w4a8 != nullptr);
  const std::string name = (*w4a4)["layer"];
  Driver driver("mxfp4", "mxfp4");
  driver.configure({{"w4a8_fallback_steps", {7, 2}}});
  TestLayer layer = Layers::get().floats(name);
  Produced produced = driver.produce(layer);
  for (uint32_t step = 0; step < 9; ++step) {
    Driver::Run run = Layers::get().run(name);
    run.step.index = step;
    run.step.count = 9;
    const bool eight = step == 2 || step == 7;
    Layers::get().expect_output(eight ? *w4a8 : *w4a4, driver.apply(layer, produced, run));
  }
  EXPECT_THROW(driver.apply(layer, produced, Layers::get().run(name)), Refusal)
      << "steps need a known step";
}

TEST(Mxfp4Oracle, RefusesWhatTheOracleRefuses) {
  if (absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  int seen = 0;
  for (const Json& one : Layers::get().refusals()) {
    for (const MxCase& known : online()) {
      if (one["method"] != known.name) continue;
      Driver driver("mxfp4", known.method);
      driver.configure(known.fields);
      TestLayer layer = Layers::get().floats(one["layer"]);
      const Answer answer = driver.plan(layer);
      EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED}) << one.dump();
      EXPECT_NE(answer.reason.find("found K = "), std::string::npos);
      ++seen;
    }
  }
  EXPECT_GT(seen, 0);
}

TEST(Mxfp4Oracle, CheckpointsDequantizeToTheirTruth) {
  struct Found {
    const char* method = nullptr;
    uint64_t claim = 0;
  };
  const auto find = [](const CheckpointFolder& folder) -> Found {
    const Json says = folder.declaration();
    if (!says.is_object()) return {};
    const std::string method = says.value("quant_method", "");
    if (method == "mxfp4") return {"mxfp4", 0};
    if (method == "mxfp4_dualscale") return {"mxfp4_dualscale", 0};
    if (method == "auto-round" && says.value("data_type", "") == "mx_fp" &&
        says.value("bits", 0) == 4) {
      return {"mxfp4", 1};
    }
    return {};
  };
  const auto folders = find_checkpoints(
      [&](const CheckpointFolder& folder) { return find(folder).method != nullptr; });
  if (folders.empty()) GTEST_SKIP() << "no checkpoints: " << shared_path("checkpoints");
  for (const CheckpointFolder& folder : folders) {
    const Found found = find(folder);
    Driver driver("mxfp4", found.method);
    const Declared declared = driver.read_declaration(folder.declaration(), found.claim);
    expect_checkpoint(driver, folder, declared);
  }
}

}  // namespace
}  // namespace loadstone::mxfp4
