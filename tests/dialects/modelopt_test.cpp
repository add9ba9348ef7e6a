// ModelOpt's folders: both places of the declaration, mixed precision under every spelling, and
// what may not be read silently.
#include <gmock/gmock.h>

#include "artifact.hpp"

namespace loadstone {
namespace {

using testing::Artifact;
using testing::e4m3_value;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Json;
using testing::Numbers;

constexpr uint64_t kRows = 8, kColumns = 64;

void add_fp8(Artifact& to, const std::string& module, Numbers& numbers) {
  const auto codes = numbers.e4m3(kRows * kColumns);
  const float scale = numbers.scales(1)[0];
  to.tensor(module + ".weight", "F8_E4M3", {kRows, kColumns}, codes);
  to.floats(module + ".weight_scale", {}, {scale});
  to.floats(module + ".input_scale", {}, {0.02f});
  std::vector<float> weight;
  for (const uint8_t code : codes) weight.push_back(e4m3_value(code) * scale);
  to.expect(module + ".weight", weight);
}

void add_int8(Artifact& to, const std::string& module, Numbers& numbers) {
  const auto codes = numbers.codes(kRows * kColumns, -128, 127);
  const auto scales = numbers.scales(kRows);
  to.tensor(module + ".weight", "I8", {kRows, kColumns}, codes);
  to.floats(module + ".weight_scale", {kRows}, scales);
  std::vector<float> weight;
  for (size_t i = 0; i < codes.size(); ++i) {
    weight.push_back(static_cast<float>(codes[i]) * scales[i / kColumns]);
  }
  to.expect(module + ".weight", weight);
}

void declare(const Artifact& artifact, Json quantization) {
  Json config = {{"architectures", {"SomeForCausalLM"}}};
  if (!quantization.is_null()) config["quantization_config"] = std::move(quantization);
  artifact.json("config.json", config);
}

Json declared(const std::string& algorithm) {
  return {{"quant_method", "modelopt"},
          {"quant_algo", algorithm},
          {"ignore", {"lm_head"}},
          {"producer", {{"name", "modelopt"}, {"version", "0.47.0"}}}};
}

Json older(const std::string& algorithm, const Json& excluded = {"lm_head"}) {
  return {{"producer", {{"name", "modelopt"}, {"version", "0.47.0"}}},
          {"quantization",
           {{"quant_algo", algorithm},
            {"kv_cache_quant_algo", nullptr},
            {"exclude_modules", excluded}}}};
}

/// Two FP8 layers under a plain head.
void write_fp8(Artifact& artifact) {
  Numbers numbers(7);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const std::string module : {"self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"}) {
      add_fp8(artifact, layer + module, numbers);
    }
  }
  artifact.kept("lm_head.weight", {16, kColumns}, numbers);
}

/// FP8 and INT8 modules under `stored`, listed under `listed`; the declaration.
Json write_mixed(Artifact& artifact, const std::string& stored, const std::string& listed) {
  Numbers numbers(9);
  Json layers = Json::object();
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    add_fp8(artifact, stored + layer + "self_attn.o_proj", numbers);
    layers[listed + layer + "self_attn.o_proj"] = {{"quant_algo", "FP8"}};
    add_int8(artifact, stored + layer + "mlp.down_proj", numbers);
    layers[listed + layer + "mlp.down_proj"] = {{"quant_algo", "W8A16"}};
  }
  Json out = declared("MIXED_PRECISION");
  out["ignore"] = Json::array();
  out["quantized_layers"] = layers;
  return out;
}

TEST(ModelOptArtifacts, EitherPlaceDeclaresAndShardsDoNotMatter) {
  Artifact artifact;
  artifact.into("model.safetensors", 3);
  write_fp8(artifact);
  declare(artifact, declared("FP8"));
  EXPECT_THAT(artifact.expect_values().notes, IsEmpty());
  artifact.json("hf_quant_config.json", older("FP8"));
  EXPECT_THAT(artifact.expect_values().notes, IsEmpty());
  declare(artifact, {});
  EXPECT_THAT(artifact.expect_values().notes, IsEmpty());
}

TEST(ModelOptArtifacts, PlacesThatDisagreeAreToldAndTheConfigurationCounts) {
  Artifact artifact;
  write_fp8(artifact);
  declare(artifact, declared("FP8"));
  const std::string start = "model: hf_quant_config.json: hf_quant_config.json ",
                    end = ", otherwise than config.json: quantization_config, which counts";
  artifact.json("hf_quant_config.json", older("NVFP4"));
  EXPECT_THAT(artifact.expect_values().notes,
              ElementsAre(start + "says quant_algo \"NVFP4\"" + end));
  artifact.json("hf_quant_config.json", older("FP8", {"lm_head", "model.layers.0*"}));
  EXPECT_THAT(artifact.expect_values().notes,
              ElementsAre(start + "says other modules to be kept" + end));
  artifact.json("hf_quant_config.json", older("FP9"));
  EXPECT_THAT(artifact.expect_values().notes,
              ElementsAre(HasSubstr(start + "not used: modelopt read_declaration failed")));
}

TEST(ModelOptArtifacts, MixedPrecisionFindsModulesUnderEverySpelling) {
  const std::pair<const char*, const char*> spellings[] = {
      {"model.", "model."},
      {"model.", "model.language_model."},
      {"model.", "language_model.model."},
      {"model.language_model.", "language_model.model."},
      {"language_model.model.", "model.language_model."},
  };
  for (const auto& [stored, listed] : spellings) {
    SCOPED_TRACE(std::string(stored) + " listed as " + listed);
    Artifact artifact;
    declare(artifact, write_mixed(artifact, stored, listed));
    artifact.expect_values();
  }
}

TEST(ModelOptArtifacts, QuantizedWeightsInNoEntryAreNotTakenForFloats) {
  Artifact artifact;
  Json all = write_mixed(artifact, "model.", "model.");
  all["quantized_layers"].erase("model.layers.1.mlp.down_proj");
  declare(artifact, all);
  EXPECT_THAT(artifact.refusal(),
              HasSubstr("quantized weight without an algorithm: "
                        "model.layers.1.mlp.down_proj.weight: found I8 and no entry of "
                        "quantized_layers, expected one that names it"));
}

TEST(ModelOptArtifacts, ZeroPointsAreRefused) {
  Artifact artifact;
  write_fp8(artifact);
  Json zero = declared("W4A16_AWQ");
  zero["has_zero_point"] = true;
  declare(artifact, zero);
  EXPECT_THAT(artifact.refusal(), HasSubstr("declaration rejected: has_zero_point: found true, "
                                            "expected false: zero points of weights are not read"));
}

TEST(ModelOptArtifacts, ScalesOfTheKvCacheAreNotWritten) {
  Artifact artifact;
  write_fp8(artifact);
  artifact.floats("model.layers.0.self_attn.k_proj.k_scale", {}, {0.5f});
  Json kv = declared("FP8");
  kv["kv_cache_scheme"] = {{"dynamic", false}, {"num_bits", 8}, {"type", "float"}};
  declare(artifact, kv);
  artifact.expect_values();
}

}  // namespace
}  // namespace loadstone
