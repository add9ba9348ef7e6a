// The plugin against the shared oracles: every fp8 case of layers.json, and every fp8 checkpoint.
#include "common/codecs/e4m3.hpp"
#include "common/numerics/fp8.hpp"
#include "common/product/coded_product.hpp"
#include "common/testing/checkpoints.hpp"
#include "common/testing/layers.hpp"
#include "fp8/declared.hpp"

namespace loadstone::fp8 {
namespace {

using common::testing::CheckpointFolder;
using common::testing::Declared;
using common::testing::Driver;
using common::testing::Json;
using common::testing::Layers;
using common::testing::Produced;
using common::testing::TestLayer;

#define NEED_LAYERS()                                                             \
  if (Layers::get().absent()) {                                                   \
    GTEST_SKIP() << "no oracle: " << common::testing::shared_path(Layers::kFile); \
  }

/// How a method of the oracle is asked for, and where its weight lies.
struct Method {
  const char* name;
  Json fields;
  const char* weight_of;  // the method whose weight it shares
  const char* scale;      // name of the weight's scale tensor
};

const std::vector<Method>& methods() {
  static const std::vector<Method> all = {
      {"fp8_tensor_token", {{"weight_granularity", "tensor"}}, "fp8_tensor_token", "weight_scale"},
      {"fp8_tensor_tensor",
       {{"weight_granularity", "tensor"}, {"activation_granularity", "tensor"}},
       "fp8_tensor_token",
       "weight_scale"},
      {"fp8_channel_token", Json::object(), "fp8_channel_token", "weight_scale"},
      {"fp8_static",
       {{"weight_granularity", "tensor"}, {"activation_scheme", "static"}},
       "fp8_tensor_token",
       "weight_scale"},
      {"fp8_block128", {{"weight_block_size", {128, 128}}}, "fp8_block128", "weight_scale_inv"},
  };
  return all;
}

const Method* method_of(const Json& one) {
  for (const Method& method : methods()) {
    if (one["method"] == method.name) return &method;
  }
  return nullptr;
}

template <typename Body>
void for_each_case(Body&& body) {
  int seen = 0;
  for (const Json& one : Layers::get().cases()) {
    const Method* method = method_of(one);
    if (method == nullptr) continue;
    SCOPED_TRACE(one["layer"].get<std::string>() + " " + method->name);
    body(one, *method, one["layer"].get<std::string>());
    ++seen;
  }
  EXPECT_GT(seen, 0) << "no fp8 case in " << Layers::kFile;
}

void add_input_scale(TestLayer& layer, const Json& one, const std::string& name) {
  const std::string key = name + "/" + one["method"].get<std::string>() + "/input_scale";
  if (Layers::get().has(key)) layer.tensor("input_scale", Layers::get().at(key));
}

TEST(Fp8Oracle, OnlineCodesAndScalesAreExact) {
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  Driver driver("fp8");
  for_each_case([&](const Json& one, const Method& method, const std::string& layer) {
    driver.configure(method.fields);
    TestLayer floats = oracle.floats(layer);
    add_input_scale(floats, one, layer);
    for (const uint32_t seed : {1u, 2u, 3u}) {
      Produced produced = driver.produce(floats, seed);
      const std::string weight = layer + "/" + method.weight_of + "/";
      EXPECT_EQ(produced.named("weight").as<char>(), oracle.at(weight + "weight").bytes);
      EXPECT_EQ(produced.named(method.scale).as<char>(), oracle.at(weight + method.scale).bytes);
      const auto dequant = driver.dequantize(floats, produced, 0, floats.out, floats.in);
      EXPECT_EQ(common::testing::fnv1a64(dequant), one["dequant_fnv1a64"]);
    }
  });
}

TEST(Fp8Oracle, OutputsLieWithinTheBoundsAndAreNotWeightOnly) {
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  Driver driver("fp8");
  for_each_case([&](const Json& one, const Method& method, const std::string& layer) {
    driver.configure(method.fields);
    TestLayer floats = oracle.floats(layer);
    add_input_scale(floats, one, layer);
    Produced produced = driver.produce(floats);
    const auto found = driver.apply(floats, produced, oracle.run(layer));
    oracle.expect_output(one, found);
    const auto dequant = driver.dequantize(floats, produced, 0, floats.out, floats.in);
    EXPECT_GT(oracle.worst(one, oracle.weight_only(layer, dequant)), 1.0)
        << "the case can't tell quantized activations from plain ones";
  });
}

TEST(Fp8Oracle, SerializedFormsGiveTheSameBytesAndOutputs) {
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  Driver driver("fp8");
  for_each_case([&](const Json& one, const Method& method, const std::string& layer) {
    Json fields = method.fields;
    fields.erase("weight_granularity");
    fields["is_checkpoint_fp8_serialized"] = true;
    driver.configure(fields);
    TestLayer stored = oracle.empty(layer);
    const std::string weight = layer + "/" + method.weight_of + "/";
    stored.tensor("weight", oracle.at(weight + "weight"));
    stored.tensor(method.scale, oracle.at(weight + method.scale));
    add_input_scale(stored, one, layer);
    Produced produced = driver.produce(stored, 4);
    EXPECT_EQ(produced.named("weight").as<char>(), oracle.at(weight + "weight").bytes);
    const auto dequant = driver.dequantize(stored, produced, 0, stored.out, stored.in);
    EXPECT_EQ(common::testing::fnv1a64(dequant), one["dequant_fnv1a64"]);
    oracle.expect_output(one, driver.apply(stored, produced, oracle.run(layer)));
    EXPECT_GT(oracle.worst(one, oracle.weight_only(layer, dequant)), 1.0)
        << "the case can't tell quantized activations from plain ones";
  });
}

/// x̂ of every row as the method's rule gives it: values on the grid times scales.
std::vector<float> quantized_activation(const Json& one, const std::string& layer,
                                        std::vector<float>& scales) {
  const Layers& oracle = Layers::get();
  const Driver::Run run = oracle.run(layer);
  std::vector<float> x(run.m * run.k), values(run.k), out;
  common::widen(run.x_dtype, run.x, x.data(), x.size());
  const std::string method = one["method"], base = layer + "/" + method + "/";
  const float amax = common::max_magnitude(x.data(), x.size());
  for (uint64_t i = 0; i < run.m; ++i) {
    const float* row = &x[i * run.k];
    std::vector<float> row_scales(1);
    uint64_t group = run.k;
    if (method == "fp8_tensor_tensor") {
      row_scales[0] = common::fp8_tensor_row(row, amax, values.data(), run.k);
    } else if (method == "fp8_static") {
      const float scale = oracle.at(base + "input_scale").as<float>()[0];
      row_scales[0] = common::fp8_fixed_row(row, scale, values.data(), run.k);
    } else if (method == "fp8_block128") {
      group = common::kFp8Group;
      row_scales.resize((run.k + group - 1) / group);
      common::fp8_groups(row, group, values.data(), row_scales.data(), run.k);
    } else {
      const bool bounded = method == "fp8_tensor_token_ub";
      const float bound = bounded ? oracle.at(base + "scale_ub").as<float>()[0] : 0.0f;
      row_scales[0] = common::fp8_token(row, bounded ? &bound : nullptr, values.data(), run.k);
    }
    for (uint64_t c = 0; c < run.k; ++c) {
      const float code = common::e4m3_decode(common::e4m3_encode(values[c]));
      out.push_back(code * row_scales[c / group]);
    }
    scales.insert(scales.end(), row_scales.begin(), row_scales.end());
  }
  return out;
}

TEST(Fp8Oracle, ActivationCodesAndScalesAreExact) {
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    if (method_of(one) == nullptr && one["method"] != "fp8_tensor_token_ub") continue;
    const std::string layer = one["layer"], method = one["method"];
    SCOPED_TRACE(layer + " " + method);
    std::vector<float> scales;
    const auto x = quantized_activation(one, layer, scales);
    EXPECT_EQ(common::testing::fnv1a64(x), one["act_fnv1a64"]);
    const std::string name = layer + "/" + method + "/x_scale";
    if (oracle.has(name)) {
      const auto wanted = oracle.at(name).as<float>();
      for (size_t i = 0; i < wanted.size(); ++i) {
        EXPECT_EQ(scales[wanted.size() == 1 ? 0 : i], wanted[i]) << "scale " << i;
      }
    }
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

TEST(Fp8Oracle, RefusesWhatTheOracleRefuses) {
  NEED_LAYERS();
  Driver driver("fp8");
  int seen = 0;
  for (const Json& one : Layers::get().refusals()) {
    const Method* method = method_of(one);
    if (method == nullptr) continue;
    driver.configure(method->fields);
    TestLayer floats = Layers::get().floats(one["layer"]);
    const auto answer = driver.plan(floats);
    EXPECT_EQ(answer.work.verdict, static_cast<uint32_t>(LS_VERDICT_UNSUPPORTED)) << one.dump();
    EXPECT_NE(answer.reason.find("expected a multiple of 128"), std::string::npos);
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

TEST(Fp8Oracle, FusedPartsRescaleToTheirLargestScaleThroughFloat16) {
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    if (one["method"] != "fp8_fused3") continue;
    const std::string base = one["layer"].get<std::string>() + "/fp8_fused3/";
    const auto codes = oracle.at(base + "shard_weight").as<uint8_t>();
    const auto scales = oracle.at(base + "shard_scale").as<float>();
    const auto rows = one["rows"].get<std::vector<uint64_t>>();
    const uint64_t k = oracle.k(one["layer"]);
    const float common_scale = *std::max_element(scales.begin(), scales.end());
    EXPECT_EQ(common_scale, oracle.at(base + "weight_scale").as<float>()[0]);
    std::vector<uint8_t> out(codes.size());
    for (size_t shard = 0; shard + 1 < rows.size(); ++shard) {
      common::fp8_rescale(&codes[rows[shard] * k], scales[shard], common_scale,
                          &out[rows[shard] * k], (rows[shard + 1] - rows[shard]) * k);
    }
    EXPECT_EQ(out, oracle.at(base + "weight").as<uint8_t>());
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

TEST(Fp8Oracle, FusedPartsKeepTheirOwnRowsScalesAndNames) {
  NEED_LAYERS();
  const Layers& oracle = Layers::get();
  Driver driver("fp8");
  driver.configure({{"is_checkpoint_fp8_serialized", true}});
  for (const Json& one : oracle.cases()) {
    if (one["method"] != "fp8_fused3") continue;
    const std::string name = one["layer"], base = name + "/fp8_fused3/";
    const auto codes = oracle.at(base + "shard_weight").as<uint8_t>();
    const auto scales = oracle.at(base + "shard_scale").as<float>();
    const auto rows = one["rows"].get<std::vector<uint64_t>>();
    const uint64_t k = oracle.k(name);
    TestLayer fused;
    fused.out = oracle.n(name);
    fused.in = k;
    const char* names[] = {"to_q", "to_k", "to_v"};
    for (size_t shard = 0; shard + 1 < rows.size(); ++shard) {
      const uint64_t count = rows[shard + 1] - rows[shard];
      fused.part(names[shard % 3], rows[shard], count);
      const std::vector<uint8_t> own(codes.begin() + static_cast<long>(rows[shard] * k),
                                     codes.begin() + static_cast<long>(rows[shard + 1] * k));
      const auto index = static_cast<uint32_t>(shard);
      fused.tensor("weight", LS_DTYPE_F8_E4M3, {count, k}, own, index);
      fused.tensor("weight_scale", LS_DTYPE_F32, {}, std::vector<float>{scales[shard]}, index);
    }
    Produced produced = driver.produce(fused);
    EXPECT_EQ(produced.named("weight").as<uint8_t>(), codes);
    EXPECT_EQ(produced.named("weight_scale").as<float>(), scales);
    const auto dequant = driver.dequantize(fused, produced, 0, fused.out, k);
    for (size_t shard = 0; shard + 1 < rows.size(); ++shard) {
      for (uint64_t i = rows[shard] * k; i < rows[shard + 1] * k; ++i) {
        ASSERT_EQ(dequant[i], common::e4m3_decode(codes[i]) * scales[shard]);
      }
    }
    const auto saved = driver.save(fused, produced);
    ASSERT_EQ(saved.size(), 2 * (rows.size() - 1));
    for (size_t shard = 0; shard + 1 < rows.size(); ++shard) {
      EXPECT_EQ(saved[2 * shard].part, shard);
      EXPECT_EQ(saved[2 * shard].bytes, fused.sources()[2 * shard].bytes);
      EXPECT_EQ(saved[2 * shard + 1].bytes, fused.sources()[2 * shard + 1].bytes);
    }
  }
}

/// A checkpoint that speaks one of the plugin's own declarations: which claim, and what it says.
bool own_declaration(const CheckpointFolder& folder, uint64_t& claim, Json& says) {
  says = folder.declaration();
  claim = kNative;
  if (says.is_object()) {
    if (says.value("quant_method", "") == "fp8") return true;
    claim = kAutoRound;
    return says.value("quant_method", "") == "auto-round" && says.value("data_type", "") == "fp" &&
           says.value("bits", 0) == 8;
  }
  if (folder.method() != "fp8" || !folder.expect().contains("layers")) return false;
  claim = kComfyMetadata;
  says = folder.metadata("_quantization_metadata");
  if (!says.is_null()) return true;
  says = Json::object();
  for (const auto& [name, tensor] : folder.tensors()) {
    if (name.ends_with("scaled_fp8")) {
      claim = kScaledFp8;
      const std::string prefix = name.substr(0, name.size() - 10);
      says[prefix] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}};
    } else if (name.ends_with(".comfy_quant")) {
      claim = kComfyQuant;
      says[name.substr(0, name.size() - 12)] = Json::parse(tensor.bytes);
    }
  }
  return !says.empty();
}

TEST(Fp8Oracle, CheckpointsDequantizeToTheirTruth) {
  uint64_t claim = 0;
  Json says;
  const auto folders = common::testing::find_checkpoints(
      [&](const CheckpointFolder& folder) { return own_declaration(folder, claim, says); });
  if (folders.empty()) {
    GTEST_SKIP() << "no checkpoints: " << common::testing::shared_path("checkpoints");
  }
  Driver driver("fp8");
  for (const CheckpointFolder& folder : folders) {
    ASSERT_TRUE(own_declaration(folder, claim, says));
    const Declared declared = driver.read_declaration(says, claim);
    common::testing::expect_checkpoint(driver, folder, declared);
  }
}

TEST(Fp8Oracle, UpperBoundedTokensLieWithinTheBounds) {
  NEED_LAYERS();
  common::testing::use_host();
  const Layers& oracle = Layers::get();
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    if (one["method"] != "fp8_tensor_token_ub") continue;
    const std::string layer = one["layer"], base = layer + "/fp8_tensor_token_ub/";
    const auto codes = oracle.at(layer + "/fp8_tensor_token/weight").as<uint8_t>();
    const float scale = oracle.at(layer + "/fp8_tensor_token/weight_scale").as<float>()[0];
    const float bound = oracle.at(base + "scale_ub").as<float>()[0];
    const Driver::Run run = oracle.run(layer);
    const common::CodedProduct product({run.n, run.k, 0});
    common::testing::Block activation(product.activation_nbytes(run.m));
    common::testing::Block workspace(product.workspace_nbytes(run.m));
    std::vector<float> y(run.m * run.n);
    ls_apply call = sdk::make<ls_apply>();
    call.x_dtype = run.x_dtype;
    call.y_dtype = LS_DTYPE_F32;
    call.m = run.m;
    call.x_stride = run.k;
    call.y_stride = run.n;
    call.x = run.x;
    call.y = y.data();
    call.bias = run.bias;
    call.bias_dtype = run.bias_dtype;
    call.workspace = workspace.at();
    product.prepare(
        call,
        [&](uint64_t, const float* x, float*, float* values, float* scales) {
          scales[0] = common::fp8_token(x, &bound, values, run.k);
        },
        activation.at());
    product.apply(call,
                  {[&](uint64_t row, uint16_t* out) {
                     common::e4m3_decode_bf16(&codes[row * run.k], out, run.k);
                   },
                   [&](uint64_t) { return &scale; }},
                  0, run.n, activation.at());
    oracle.expect_output(one, y);
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace loadstone::fp8
