#include "outputs.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/testing/temp_folder.hpp"

namespace loadstone::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Outputs : public ::testing::Test {
 protected:
  std::string at(const std::string& name) const { return root_ + "/" + name; }
  static std::string content(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(root_), {}));
  }

  const loadstone::testing::TempFolder temp_;
  const std::string root_ = temp_.path();
};

TEST_F(Outputs, AppearWholeAndLeaveNothingElse) {
  auto output = Output::reserve(at("a.json"));
  ASSERT_TRUE(output.ok());
  EXPECT_FALSE(fs::exists(at("a.json")));
  ASSERT_TRUE(output->write("text").ok());
  EXPECT_EQ(content(at("a.json")), "text");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Outputs, NotWrittenLeaveWhatWasThere) {
  std::ofstream(at("a.json")) << "old";
  { ASSERT_TRUE(Output::reserve(at("a.json")).ok()); }
  EXPECT_EQ(content(at("a.json")), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Outputs, MakeFoldersAndTakeUnusedOnesAway) {
  { ASSERT_TRUE(Output::reserve_with_folders(at("x/y/a.json")).ok()); }
  EXPECT_EQ(entries(), 0u);
  {
    auto output = Output::reserve_with_folders(at("x/y/a.json"));
    ASSERT_TRUE(output.ok());
    ASSERT_TRUE(output->write("text").ok());
  }
  EXPECT_EQ(content(at("x/y/a.json")), "text");
}

TEST_F(Outputs, FoldersThatWereThereStay) {
  fs::create_directory(at("there"));
  { ASSERT_TRUE(OutputFolder::reserve(at("there/new")).ok()); }
  EXPECT_TRUE(fs::is_directory(at("there")));
  EXPECT_FALSE(fs::exists(at("there/new")));
}

TEST_F(Outputs, S44_PathsThatTakeNoFileAreRefused) {
  fs::create_directory(at("folder"));
  std::ofstream(at("file")) << "x";
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  for (const std::string& path :
       {std::string(), std::string("-"), at("folder"), at("folder") + "/", at("missing/a"),
        at("file") + "/a", at("pipe"), std::string("/dev/full"), std::string("/proc/a")}) {
    const auto output = Output::reserve(path);
    ASSERT_FALSE(output.ok()) << path;
    EXPECT_EQ(output.error().code, Code::invalid_argument);
    EXPECT_THAT(output.error().text(), HasSubstr("output path rejected: ")) << path;
  }
  EXPECT_THAT(OutputFolder::reserve(at("file")).error().text(),
              HasSubstr("found a file, expected a folder or a new name"));
  EXPECT_FALSE(OutputFolder::reserve("/proc/a/b").ok());
  EXPECT_FALSE(OutputFolder::reserve("").ok());
}

}  // namespace
}  // namespace loadstone::cli
