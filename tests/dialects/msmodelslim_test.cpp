// msModelSlim's folders: the types that no public tool's checkpoint has here, cascades with a
// description each, and what its writer names and nobody reads.
#include <gmock/gmock.h>

#include "artifact.hpp"

namespace loadstone {
namespace {

using testing::Artifact;
using testing::e4m3_value;
using ::testing::HasSubstr;
using testing::Json;
using testing::Numbers;

constexpr uint64_t kRows = 6, kColumns = 64;

/// The description of a folder, grown with its tensors.
struct Folder {
  Artifact& artifact;
  std::string prefix;  // of the folder's path
  Json types = Json::object();

  template <typename T>
  void tensor(const std::string& name, const std::string& type, const std::string& dtype,
              const testing::Dims& shape, const std::vector<T>& values) {
    artifact.tensor(name, dtype, shape, values);
    types[name] = type;
  }
  void begin(uint32_t shards = 1) {
    artifact.into(prefix + "quant_model_weights.safetensors", shards);
  }
  void finish(const std::string& type, const std::string& file = "quant_model_description.json") {
    types["model_quant_type"] = type;
    types["version"] = "1.0.0";
    types["metadata"] = Json::object();
    types["group_size"] = 0;
    types["optional"] = Json::object();
    artifact.json(prefix + file, types);
    artifact.json(prefix + "config.json", {{"model_type", "t2v"}});
  }
};

/// I8 codes with scales and offsets, `groups` of each a row.
void add_integers(Folder& folder, const std::string& module, const std::string& type, int low,
                  int high, uint64_t groups, bool offsets, const std::string& expected) {
  Numbers numbers(static_cast<uint32_t>(module.size() + groups));
  const auto codes = numbers.codes(kRows * kColumns, low, high);
  const auto scales = numbers.scales(kRows * groups);
  std::vector<float> zeros(kRows * groups, 0.0f), weight;
  for (size_t i = 0; offsets && i < zeros.size(); ++i) zeros[i] = static_cast<float>(i % 9) - 4.0f;
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t at = i / kColumns * groups + i % kColumns / (kColumns / groups);
    weight.push_back((static_cast<float>(codes[i]) - zeros[at]) * scales[at]);
  }
  folder.tensor(module + ".weight", type, "I8", {kRows, kColumns}, codes);
  folder.tensor(module + ".weight_scale", type, "F32", {kRows, groups}, scales);
  folder.tensor(module + ".weight_offset", type, "F32", {kRows, groups}, zeros);
  folder.artifact.expect(expected, weight);
}

void add_fp8(Folder& folder, const std::string& module, const std::string& expected) {
  const std::string type = "WFP8AFP8_DYNAMIC";
  Numbers numbers(3);
  const auto codes = numbers.e4m3(kRows * kColumns);
  const auto scales = numbers.scales(kRows);
  std::vector<float> weight;
  for (size_t i = 0; i < codes.size(); ++i) {
    weight.push_back(e4m3_value(codes[i]) * scales[i / kColumns]);
  }
  folder.tensor(module + ".weight", type, "F8_E4M3", {kRows, kColumns}, codes);
  folder.tensor(module + ".weight_scale", type, "F32", {kRows, 1}, scales);
  folder.tensor(module + ".weight_offset", type, "F32", {kRows, 1}, std::vector<float>(kRows, 0));
  folder.artifact.expect(expected, weight);
}

void add_float(Folder& folder, const std::string& name, const testing::Dims& shape,
               const std::string& expected) {
  Numbers numbers(11);
  uint64_t count = 1;
  for (const uint64_t dim : shape) count *= dim;
  const auto values = numbers.scales(count);
  folder.tensor(name, "FLOAT", "F32", shape, values);
  folder.artifact.expect(expected, values);
}

TEST(MsModelSlimArtifacts, TypesOfWholeNumbers) {
  struct Case {
    const char* type;
    int low, high;
    uint64_t groups;
    bool offsets;
  };
  const Case cases[] = {
      {"W8A16", -128, 127, 1, true},         {"W8A16", -128, 127, 4, true},
      {"W8A16", -128, 127, 1, false},        {"W4A4_DYNAMIC", -8, 7, 1, false},
      {"W8A8_DYNAMIC", -127, 127, 1, false}, {"W4A8_DYNAMIC", -8, 7, 1, false},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(std::string(one.type) + " in " + std::to_string(one.groups));
    Artifact artifact;
    Folder folder{artifact, ""};
    folder.begin(2);
    for (const std::string module :
         {"blocks.0.self_attn.q", "blocks.0.self_attn.k", "blocks.0.ffn.0", "blocks.1.ffn.2"}) {
      add_integers(folder, module, one.type, one.low, one.high, one.groups, one.offsets,
                   module + ".weight");
    }
    add_float(folder, "blocks.0.ffn.0.bias", {kRows}, "blocks.0.ffn.0.bias");
    add_float(folder, "head.head.weight", {4, kColumns}, "head.head.weight");
    folder.finish(one.type);
    artifact.expect_values();
  }
}

TEST(MsModelSlimArtifacts, EachFolderOfACascadeHasItsOwnDescription) {
  Artifact artifact;
  Folder high{artifact, "high_noise_model/"}, low{artifact, "low_noise_model/"};
  high.begin();
  add_integers(high, "blocks.0.self_attn.q", "W8A16", -128, 127, 1, true,
               "high_noise_model/blocks.0.self_attn.q.weight");
  add_float(high, "head.head.weight", {4, kColumns}, "high_noise_model/head.head.weight");
  high.finish("W8A16", "quant_model_description_w8a16.json");
  low.begin();
  add_fp8(low, "blocks.0.self_attn.q", "low_noise_model/blocks.0.self_attn.q.weight");
  add_integers(low, "blocks.0.ffn.0", "W4A4_DYNAMIC", -8, 7, 1, false,
               "low_noise_model/blocks.0.ffn.0.weight");
  low.finish("W4A4_DYNAMIC");
  artifact.expect_values();
}

TEST(MsModelSlimArtifacts, SmoothedLayersAreWrittenBesideTheirFactors) {
  Artifact artifact;
  Folder folder{artifact, ""};
  folder.begin();
  add_integers(folder, "blocks.0.ffn.0.linear", "W8A8_DYNAMIC", -127, 127, 1, false,
               "blocks.0.ffn.0.weight");
  add_float(folder, "blocks.0.ffn.0.div.mul_scale", {kColumns}, "blocks.0.ffn.0.input_mul");
  folder.finish("W8A8_DYNAMIC");
  artifact.expect_values();
}

TEST(MsModelSlimArtifacts, TypesThatAreNotReadAreNamedWithTheirReason) {
  for (const std::string type :
       {"W8A8S", "W8A8SC", "W16A16S", "W16A16SC", "W8A8_MIX", "W8A8_TIMESTEP", "W4A8_MXFP",
        "W4A4_MXFP4_SVD", "W4A4_FLATQUANT_DYNAMIC", "W4A16", "NF4", "C8", "KV8"}) {
    Artifact artifact;
    Folder folder{artifact, ""};
    folder.begin();
    add_integers(folder, "blocks.0.ffn.0", type, -8, 7, 1, false, "blocks.0.ffn.0.weight");
    folder.finish(type);
    EXPECT_THAT(artifact.refusal(), HasSubstr("found \"" + type + "\", which is not read: "));
  }
}

TEST(MsModelSlimArtifacts, WeightsThatAreCalledFloatMustBe) {
  Artifact artifact;
  Folder folder{artifact, ""};
  folder.begin();
  add_integers(folder, "blocks.0.ffn.0", "W8A16", -128, 127, 1, true, "blocks.0.ffn.0.weight");
  add_integers(folder, "blocks.1.ffn.0", "FLOAT", -128, 127, 1, true, "blocks.1.ffn.0.weight");
  folder.finish("W8A16");
  EXPECT_THAT(artifact.refusal(), HasSubstr("weight has no type: blocks.1.ffn.0.weight: found I8"));
}

}  // namespace
}  // namespace loadstone
