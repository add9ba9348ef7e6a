#include "runtime/compare/variant.hpp"

#include <gmock/gmock.h>

#include "runtime/compare/testing.hpp"

namespace loadstone::compare {
namespace {

Result<VariantQuantization> of(std::optional<std::string> method, std::optional<std::string> json,
                               std::optional<std::string> ignored) {
  return variant_quantization(system_files(), {"candidate", method, json, ignored});
}

std::string config_of(const Result<VariantQuantization>& result) {
  return result.value().config ? result.value().config->to_json() : "none";
}

TEST(VariantQuantization, TakesAMethodAlone) {
  const auto made = of("fp8", {}, {});
  EXPECT_EQ(made.value().method, "fp8");
  EXPECT_EQ(config_of(made), "none");
  EXPECT_EQ(made.value().spec().to_json(), "\"fp8\"");
}

TEST(VariantQuantization, PutsIgnoredLayersBesideTheMethod) {
  const auto made = of("fp8", {}, " a , ,b ");
  EXPECT_FALSE(made.value().method);
  EXPECT_EQ(made.value().spec(),
            parse_json(R"({"method":"fp8","ignored_layers":["a","b"]})", "").value());
}

TEST(VariantQuantization, ReadsAnObjectFromTextOrFile) {
  const testing::Folder folder;
  folder.write("q.json", std::string(R"({"method": "int8"})"));
  EXPECT_EQ(of({}, R"({"method":"fp8"})", {}).value().spec().find("method")->text(), "fp8");
  EXPECT_EQ(of({}, folder.path("q.json"), {}).value().spec().find("method")->text(), "int8");
}

TEST(VariantQuantization, IsNothingWithoutFlags) {
  EXPECT_TRUE(of({}, {}, {}).value().spec().is_null());
}

TEST(VariantQuantization, DropsNoFlag) {
  EXPECT_EQ(of("fp8", R"({"method":"int8"})", {}).error().text(),
            "flags conflict: candidate: found --candidate-quantization beside "
            "--candidate-quantization-config-json, expected one of the two");
  EXPECT_EQ(of({}, R"({"method":"int8"})", "a").error().text(),
            "flags conflict: candidate: found ignored layers beside "
            "--candidate-quantization-config-json, expected ignored_layers inside the object");
  EXPECT_EQ(of({}, {}, "img_mlp").error().text(),
            "flags conflict: candidate: found ignored layers without a method, expected "
            "--candidate-quantization METHOD beside them");
}

TEST(VariantQuantization, RefusesWhatIsNoObject) {
  for (const char* text : {"[1]", "\"fp8\"", "12", "null", "{bad", "", "no/such/file.json"}) {
    const auto made = of({}, text, {});
    ASSERT_FALSE(made.ok()) << text;
    EXPECT_THAT(made.error().text(), ::testing::HasSubstr("--candidate-quantization-config-json"))
        << text;
  }
}

}  // namespace
}  // namespace loadstone::compare
