#include "formats/declarations.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelFolder;
using testing::Safetensors;

class DeclarationsTest : public ::testing::Test {
 protected:
  // origin, scope and value of each declaration of the only component.
  std::vector<std::string> open(const std::string& name = "") {
    auto opened = folder_.open(name);
    EXPECT_TRUE(opened.ok()) << opened.error().text();
    if (!opened.ok()) return {};
    notes_ = opened->notes;
    std::vector<std::string> out;
    for (const Declaration& declaration : opened->components.at(0).declarations) {
      out.push_back(declaration.origin + "|" + declaration.scope + "|" +
                    declaration.value.to_json());
    }
    return out;
  }
  ModelFolder folder_;
  std::vector<std::string> notes_;
};

TEST_F(DeclarationsTest, InConfigWhereverTheyStand) {
  folder_.weights("model.safetensors", {"a"});
  folder_.write("config.json", R"({"quantization_config":{"quant_method":"fp8"},
      "thinker_config":{"text_config":{"quantization_config":{"quant_method":"gptq",
                                                              "quantization_config":{}}}},
      "talker_config":{"quantization_config":null}})");
  EXPECT_THAT(open(), ElementsAre("quantization_config||{\"quant_method\":\"fp8\"}",
                                  "quantization_config|thinker_config.text_config|"
                                  "{\"quant_method\":\"gptq\",\"quantization_config\":{}}"));
}

TEST_F(DeclarationsTest, ATextNamesAMethodAndAnEmptyMapSaysNothing) {
  folder_.weights("model.safetensors", {"a"});
  folder_.write("config.json", R"({"quantization_config":"mxfp8"})");
  const auto opened = folder_.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  const auto& declarations = opened->components.at(0).declarations;
  ASSERT_EQ(declarations.size(), 1u);
  EXPECT_EQ(declarations[0].value.to_json(), R"({"quant_method":"mxfp8"})");
  folder_.write("config.json", R"({"quantization_config":{}})");
  const auto empty = folder_.open();
  ASSERT_TRUE(empty.ok()) << empty.error().text();
  EXPECT_TRUE(empty->components.at(0).declarations.empty());
}

TEST_F(DeclarationsTest, S34_ADeclarationIsAMap) {
  folder_.weights("model.safetensors", {"a"});
  folder_.write("config.json", R"({"quantization_config":[1]})");
  EXPECT_EQ(folder_.error(),
            "quantization_config rejected: config.json:1:24: found a list of 1, expected a map or "
            "a method's name");
  folder_.write("config.json", "{}");
  folder_.write("hf_quant_config.json", "[]");
  EXPECT_EQ(
      folder_.error(),
      "quantization declaration rejected: hf_quant_config.json: found a list of 0, expected a "
      "map");
}

TEST_F(DeclarationsTest, SideFilesAreReadOnceWhenTheyAgree) {
  folder_.weights("model.safetensors", {"a"});
  folder_.write("config.json", R"({"quantization_config":{"bits":4,"sym":true}})");
  folder_.write("quantize_config.json", R"({"sym":true,"bits":4})");
  folder_.write("hf_quant_config.json", R"({"producer":{"name":"modelopt"}})");
  EXPECT_THAT(open(), ElementsAre("quantization_config||{\"bits\":4,\"sym\":true}",
                                  "hf_quant_config.json||{\"producer\":{\"name\":\"modelopt\"}}"));
  EXPECT_TRUE(notes_.empty());
}

TEST_F(DeclarationsTest, S34_ContradictionsOfSideFilesAreKeptAndNoted) {
  folder_.weights("model.safetensors", {"a"});
  folder_.write("config.json", R"({"quantization_config":{"bits":4}})");
  folder_.write("quantization_config.json", R"({"bits":8})");
  EXPECT_THAT(open(), ElementsAre("quantization_config||{\"bits\":4}",
                                  "quantization_config.json||{\"bits\":8}"));
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_THAT(notes_[0], HasSubstr("quantization_config.json contradicts "));
  EXPECT_THAT(notes_[0], HasSubstr("config.json (key \"bits\")"));
}

TEST_F(DeclarationsTest, TwoDescriptionsAreAmbiguous) {
  folder_.weights("model.safetensors", {"a"});
  folder_.write("quant_model_description_a.json", R"({"a":"W8A8"})");
  EXPECT_THAT(open(), ElementsAre("quant_model_description.json||{\"a\":\"W8A8\"}"));
  folder_.write("quant_model_description_b.json", "{}");
  EXPECT_EQ(folder_.error(),
            "quantization description is ambiguous: .: found quant_model_description_a.json and "
            "quant_model_description_b.json, expected one");
}

TEST_F(DeclarationsTest, HeaderMetadata) {
  folder_.write("m.safetensors", Safetensors()
                                     .metadata("format", "\"pt\"")
                                     .metadata("_quantization_metadata", R"("{\"layers\":{}}")")
                                     .metadata("quantized_by", "\"someone\"")
                                     .zeros("a", "U8", "[1]", 1)
                                     .bytes());
  EXPECT_THAT(open("m.safetensors"), ElementsAre("metadata:_quantization_metadata||{\"layers\":{}}",
                                                 "metadata:quantized_by||\"someone\""));
}

TEST_F(DeclarationsTest, MarkerTensors) {
  const std::string marker = R"({"format":"float8_e4m3fn"})";
  folder_.write("m.safetensors", Safetensors()
                                     .tensor("blocks.0.comfy_quant", "U8", "[26]", marker)
                                     .zeros("model.diffusion_model.scaled_fp8", "F8_E4M3", "[0]", 0)
                                     .zeros("not_scaled_fp8", "F8_E4M3", "[0]", 0)
                                     .bytes());
  EXPECT_THAT(open("m.safetensors"),
              ElementsAre("marker:comfy_quant||{\"blocks.0\":{\"format\":\"float8_e4m3fn\"}}",
                          "marker:scaled_fp8||{\"model.diffusion_model.\":{\"dtype\":\"F8_E4M3\","
                          "\"shape\":[0]}}"));
}

TEST_F(DeclarationsTest, BadMarkersAreErrors) {
  folder_.write("m.safetensors",
                Safetensors().tensor("x.comfy_quant", "U8", "[3]", "{\"a").bytes());
  EXPECT_THAT(folder_.error("m.safetensors"), HasSubstr("invalid JSON: x.comfy_quant: "));
  folder_.write("m.safetensors",
                Safetensors().zeros("x.comfy_quant", "U8", "[4097]", 4097).bytes());
  EXPECT_EQ(folder_.error("m.safetensors"),
            "marker tensor rejected: m.safetensors: x.comfy_quant: found 4097 bytes, expected at "
            "most 4096");
}

}  // namespace
}  // namespace loadstone::formats
