#include "formats/hub_cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using ::testing::HasSubstr;
using testing::ModelFolder;

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";
const std::string kRepository = "models--Qwen--Qwen-Image";

class HubCacheTest : public ::testing::Test {
 protected:
  void ref(const std::string& content, const std::string& branch = "main") {
    cache_.write(kRepository + "/refs/" + branch, content);
  }
  void snapshot() {
    cache_.weights(kRepository + "/blobs/abc", {"a"});
    const std::string folder = kRepository + "/snapshots/" + kCommit;
    std::filesystem::create_directories(cache_.path(folder));
    std::filesystem::create_symlink("../../blobs/abc", cache_.path(folder + "/model.safetensors"));
  }
  Result<std::string> find(const std::string& name) {
    return find_in_hub_cache(system_files(), *parse_hub_name(name),
                             {.hf_hub_cache = cache_.path()});
  }
  std::string error(const std::string& name) {
    auto found = find(name);
    return found.ok() ? "found" : cache_.without_path(found.error().text());
  }
  ModelFolder cache_;
};

TEST_F(HubCacheTest, FindsBranchTagAndCommit) {
  snapshot();
  ref(kCommit);
  ref(kCommit + "\n", "v1.0");
  for (const std::string name : {"Qwen/Qwen-Image", "Qwen/Qwen-Image@v1.0"}) {
    EXPECT_EQ(*find(name), cache_.path(kRepository + "/snapshots/" + kCommit));
  }
  EXPECT_EQ(*find("Qwen/Qwen-Image@" + kCommit),
            cache_.path(kRepository + "/snapshots/" + kCommit));
}

TEST_F(HubCacheTest, OpensByName) {
  snapshot();
  ref(kCommit);
  ASSERT_EQ(::setenv("HF_HUB_CACHE", cache_.path().c_str(), 1), 0);
  auto opened = open_checkpoint(system_files(), "Qwen/Qwen-Image");
  auto missing = open_checkpoint(system_files(), "Qwen/Qwen-Image-Edit");
  ASSERT_EQ(::unsetenv("HF_HUB_CACHE"), 0);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->path, "Qwen/Qwen-Image");
  EXPECT_EQ(opened->components[0].tensors.size(), 1u);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, Code::not_found);
  EXPECT_THAT(missing.error().text(), HasSubstr("hf download Qwen/Qwen-Image-Edit"));
}

TEST_F(HubCacheTest, MissingModelsSayHowToDownload) {
  EXPECT_EQ(error("Qwen/Qwen-Image"),
            "model not found: Qwen/Qwen-Image: found no file or folder of that name, and no such "
            "model in the hub cache \".\", expected a downloaded model; download it with: hf "
            "download Qwen/Qwen-Image");
  ref(kCommit);
  EXPECT_EQ(error("Qwen/Qwen-Image@dev"),
            "model not found: Qwen/Qwen-Image@dev: found no revision \"dev\" in \"" + kRepository +
                "\", expected a downloaded model; download it with: hf download Qwen/Qwen-Image "
                "--revision dev");
  EXPECT_EQ(error("Qwen/Qwen-Image"),
            "model not found: Qwen/Qwen-Image: found no snapshot " + kCommit + " in \"" +
                kRepository +
                "\", expected a downloaded model; download it with: hf download Qwen/Qwen-Image");
}

TEST_F(HubCacheTest, S17_ReferencesAreCommitsOnly) {
  snapshot();
  const std::string where = kRepository + "/refs/main: ";
  const std::pair<std::string, std::string> cases[] = {
      {"../../../etc", "found \"../../../etc\""},
      {kCommit.substr(0, 39), "found \"" + kCommit.substr(0, 39) + "\""},
      {kCommit + "a", "found \"" + kCommit + "a\""},
      {"ABCDEF6789abcdef0123456789abcdef01234567",
       "found \"ABCDEF6789abcdef0123456789abcdef01234567\""},
      {"", "found \"\""},
      {"main\n../x", "found \"main\\n../x\""}};
  for (const auto& [content, found] : cases) {
    ref(content);
    EXPECT_EQ(error("Qwen/Qwen-Image"), "hub cache reference rejected: " + where + found +
                                            ", expected a commit of 40 hexadecimal digits");
  }
  ref(std::string(10'000'000, 'a'));
  EXPECT_EQ(error("Qwen/Qwen-Image"), "file is too large: " + kRepository +
                                          "/refs/main: found 10000000 bytes, expected at most 64");
}

TEST(HubName, S17_NamesAndRevisionsHoldNoPath) {
  EXPECT_TRUE(parse_hub_name("Qwen/Qwen-Image"));
  EXPECT_EQ(parse_hub_name("black-forest-labs/FLUX.1-dev@main")->revision, "main");
  for (const char* name :
       {"", "Qwen", "a/b/c", "/a/b", "./a", "../a", "a/..", "a/.", "a/b@", "a/b@../x", "a/b@x/y",
        "a/b@refs/pr/1", "a//b", "a/b@-x", "a--b/c", "a/b\n", "~/a", "a/b c"}) {
    EXPECT_FALSE(parse_hub_name(name)) << name;
  }
}

TEST(HubCacheFolder, S17_Precedence) {
  HubEnvironment environment{"/c", "/h", "/x", "/home/u"};
  EXPECT_EQ(*hub_cache_folder(environment), "/c");
  environment.hf_hub_cache.clear();
  EXPECT_EQ(*hub_cache_folder(environment), "/h/hub");
  environment.hf_home = "~/models";
  EXPECT_EQ(*hub_cache_folder(environment), "/home/u/models/hub");
  environment.hf_home.clear();
  EXPECT_EQ(*hub_cache_folder(environment), "/x/huggingface/hub");
  environment.xdg_cache_home.clear();
  EXPECT_EQ(*hub_cache_folder(environment), "/home/u/.cache/huggingface/hub");
}

TEST(HubCacheFolder, S17_OnlyAbsoluteFoldersWithoutDots) {
  EXPECT_EQ(hub_cache_folder({.hf_hub_cache = "cache"}).error().text(),
            "hub cache folder rejected: HF_HUB_CACHE: found \"cache\", expected an absolute path "
            "without \"..\"");
  EXPECT_EQ(hub_cache_folder({.hf_home = "/a/../b"}).error().text(),
            "hub cache folder rejected: HF_HOME: found \"/a/../b\", expected an absolute path "
            "without \"..\"");
  EXPECT_EQ(hub_cache_folder({.xdg_cache_home = "/a/.."}).error().text(),
            "hub cache folder rejected: XDG_CACHE_HOME: found \"/a/..\", expected an absolute path "
            "without \"..\"");
  EXPECT_EQ(hub_cache_folder({}).error().text(),
            "hub cache folder unknown: HOME: found it unset, expected HF_HUB_CACHE, HF_HOME, "
            "XDG_CACHE_HOME or HOME");
}

}  // namespace
}  // namespace loadstone::formats
