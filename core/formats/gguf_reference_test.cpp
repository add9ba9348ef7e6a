#include "formats/gguf_reference.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using testing::ModelFolder;

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";
const std::string kSnapshot = "models--city--image/snapshots/" + kCommit;

std::string parsed(const std::string& text) {
  const auto out = parse_gguf_reference(system_files(), text);
  if (!out.ok()) return out.error().text();
  constexpr const char* kKinds[] = {"file", "in", "type"};
  return std::string(kKinds[static_cast<int>(out->kind)]) + " " + out->place + " " + out->name;
}

TEST(GgufReference, IsReadByTheFirstFormThatFits) {
  EXPECT_EQ(parsed("city/image/x-Q4_0.gguf"), "in city/image x-Q4_0.gguf");
  EXPECT_EQ(parsed("city/image/sub/x.gguf"), "in city/image/sub x.gguf");
  EXPECT_EQ(parsed("city/image:Q4_K_M"), "type city/image Q4_K_M");
  EXPECT_EQ(parsed("a/b:c:d"), "type a/b:c d");
  for (const char* text : {"x.gguf", "city/image", "", "city/image/x.GGUF", "city:Q4_0"}) {
    EXPECT_EQ(parsed(text), "gguf_model rejected: \"" + std::string(text) +
                                "\": found no such file, expected a file, REPO/FILE.gguf or "
                                "REPO:TYPE");
  }
}

class GgufReferenceTest : public ::testing::Test {
 protected:
  void put(const std::string& name) { files_.write(name, "GGUF"); }
  std::string find(const std::string& text) {
    const auto found = find_gguf(system_files(), text, {.hf_hub_cache = files_.path()});
    return files_.without_path(found.ok() ? *found : found.error().text());
  }
  std::string here(const std::string& name) const { return files_.path(name); }
  ModelFolder files_;
};

TEST_F(GgufReferenceTest, AFileThatExistsComesFirst) {
  put("x:y/z.gguf");
  EXPECT_EQ(parsed(here("x:y/z.gguf")), "file " + here("x:y/z.gguf") + " ");
  EXPECT_EQ(find(here("x:y/z.gguf")), files_.without_path(here("x:y/z.gguf")));
}

TEST_F(GgufReferenceTest, RepositoriesAreLookedUpInTheHubCache) {
  files_.write("models--city--image/refs/main", kCommit);
  put(kSnapshot + "/image-Q4_0.gguf");
  put(kSnapshot + "/big/image-Q8_0.gguf");
  const std::string snapshot = files_.without_path(here(kSnapshot));
  EXPECT_EQ(find("city/image/image-Q4_0.gguf"), snapshot + "/image-Q4_0.gguf");
  EXPECT_EQ(find("city/image/big/image-Q8_0.gguf"), snapshot + "/big/image-Q8_0.gguf");
  EXPECT_EQ(find("city/image:Q8_0"), snapshot + "/big/image-Q8_0.gguf");
  EXPECT_EQ(find("city/image@" + kCommit + ":Q4_0"), snapshot + "/image-Q4_0.gguf");
  EXPECT_EQ(find("city/image/image-Q4_1.gguf"),
            "gguf_model rejected: \"city/image/image-Q4_1.gguf\": found no file "
            "\"image-Q4_1.gguf\" in \"" +
                snapshot +
                "\", expected one that is there (download it first); did you mean "
                "\"image-Q4_0.gguf\"?");
  EXPECT_EQ(find("city/image:Q5_K_M"),
            "gguf_model rejected: \"city/image:Q5_K_M\": found no file of type \"Q5_K_M\" in \"" +
                snapshot + "\", expected one of big/image-Q8_0.gguf, image-Q4_0.gguf");
  EXPECT_THAT(find("city/other:Q4_0"), ::testing::HasSubstr("hf download city/other"));
}

TEST_F(GgufReferenceTest, OfSeveralFilesOfATypeTheOneWithTheFewestDashesWins) {
  put("folder/m-Q4_0-00001-of-00002.gguf");
  put("folder/m-Q4_0-00002-of-00002.gguf");
  EXPECT_EQ(find(here("folder") + ":Q4_0"),
            files_.without_path(here("folder/m-Q4_0-00001-of-00002.gguf")));
  put("folder/m-Q4_0.gguf");
  put("folder/m-XQ4_0.gguf");
  EXPECT_EQ(find(here("folder") + ":Q4_0"), files_.without_path(here("folder/m-Q4_0.gguf")));
  put("folder/n-Q4_0.gguf");
  EXPECT_THAT(find(here("folder") + ":Q4_0"),
              ::testing::HasSubstr("found m-Q4_0.gguf and n-Q4_0.gguf, expected one file of the "
                                   "type (name the file)"));
}

TEST_F(GgufReferenceTest, WhatIsNotThereIsSaidClearly) {
  EXPECT_EQ(find("/no/such/file.gguf"),
            "gguf_model rejected: \"/no/such/file.gguf\": found no folder \"/no/such\", expected a "
            "file, REPO/FILE.gguf or REPO:TYPE (REPO: a folder or ORGANISATION/NAME)");
  EXPECT_THAT(find("city/image/../../x.gguf"), ::testing::HasSubstr("found no folder"));
  EXPECT_THAT(find("/x.gguf"), ::testing::HasSubstr("found no folder \"\""));
  EXPECT_EQ(find("city/image:"),
            "gguf_model rejected: \"city/image:\": found no type behind the colon, expected one, "
            "such as Q4_0");
}

}  // namespace
}  // namespace loadstone::formats
