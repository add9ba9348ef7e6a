#include "formats/safetensors_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/testing/temp_folder.hpp"

namespace loadstone::formats {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class OutputTest : public ::testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  size_t entries() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  static std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const loadstone::testing::TempFolder temp_;
  const std::string folder_ = temp_.path();
};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

TEST_F(OutputTest, SafetensorsWriterStreamsHeaderThenData) {
  const TensorSpec tensors[] = {
      {"b", DType::F32, {2}}, {"a", DType::U8, {3, 1}}, {"s", DType::F64, {}}};
  auto writer = SafetensorsWriter::create(at("x.safetensors"), tensors, {{"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.error().text();
  EXPECT_FALSE(fs::exists(at("x.safetensors")));
  ASSERT_TRUE(writer->append(bytes_of("01234")).ok());
  ASSERT_TRUE(writer->append(bytes_of("56789abcdefghi")).ok());
  ASSERT_TRUE(writer->finish().ok());
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"U8","shape":[3,1],"data_offsets":[8,11]},)"
      R"("s":{"dtype":"F64","shape":[],"data_offsets":[11,19]}})";
  const std::string file = content(at("x.safetensors"));
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(file.substr(8, header.size()), header);
  EXPECT_EQ(file.find_first_not_of(' ', 8 + header.size()), 8 + length);
  EXPECT_EQ(file.substr(8 + length), "0123456789abcdefghi");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(OutputTest, SafetensorsWriterRefusesWhatTheFormatCantHold) {
  auto refused = [&](std::vector<TensorSpec> tensors) {
    auto writer = SafetensorsWriter::create(at("x"), tensors);
    return writer.ok() ? std::string() : writer.error().text();
  };
  EXPECT_EQ(refused({{"__metadata__", DType::F32, {1}}}),
            "tensor can't be written: \"__metadata__\": found a reserved, repeated or non-UTF-8 "
            "name, expected a name of its own");
  EXPECT_THAT(refused({{"a", DType::F32, {1}}, {"a", DType::F32, {1}}}), HasSubstr("repeated"));
  EXPECT_THAT(refused({{"a", ggml_dtype(2), {32}}}), HasSubstr("found dtype Q4_0, expected"));
  EXPECT_THAT(refused({{"a", DType::F32, {uint64_t{1} << 40, uint64_t{1} << 40}}}),
              HasSubstr("overflows"));
  EXPECT_THAT(refused({{"a", DType::F4, {3}}}), HasSubstr("cuts a block"));
  EXPECT_EQ(entries(), 0u);
}

TEST_F(OutputTest, NothingIsLeftOfAnUnfinishedFile) {
  const TensorSpec tensors[] = {{"a", DType::U8, {4}}};
  {
    auto writer = SafetensorsWriter::create(at("x"), tensors);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->append(bytes_of("012")).ok());
    EXPECT_THAT(writer->append(bytes_of("34")).error().text(), HasSubstr("expected at most 1"));
    EXPECT_THAT(writer->finish().error().text(), HasSubstr("found 1 bytes too few"));
  }
  EXPECT_EQ(entries(), 0u);
}

TEST_F(OutputTest, S44_OutputPathIsCheckedBeforeTheRun) {
  std::ofstream(at("file")) << "old";
  struct Case {
    std::string path, text;
  };
  const Case cases[] = {
      {"", "found \"\", expected a file name"},
      {"-", "found \"-\", expected a file name (standard output takes no binary file)"},
      {folder_, "found a folder, expected a file name"},
      {at("new/"), "found a folder's name, expected a file name"},
      {at("missing/x.png"), "found no folder \"" + at("missing") + "\", expected one that exists"},
      {at("file/x.png"), "found no folder \"" + at("file") + "\", expected one that exists"},
      {"/dev/full", "found a device, pipe or socket, expected a regular file"},
      {"/proc/x.png", "found a folder that takes no new file"},
  };
  for (const Case& c : cases) {
    auto status = check_output_path(c.path);
    ASSERT_FALSE(status.ok()) << c.path;
    EXPECT_EQ(status.error().code, Code::invalid_argument);
    EXPECT_THAT(status.error().text(), HasSubstr("output path rejected: "));
    EXPECT_THAT(status.error().text(), HasSubstr(c.text));
  }
  EXPECT_TRUE(check_output_path(at("file")).ok());
  EXPECT_TRUE(check_output_path(at("new.png")).ok());
  EXPECT_EQ(content(at("file")), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(OutputTest, CommitReplacesAndHonoursTheMask) {
  std::ofstream(at("file")) << "old";
  const mode_t mask = ::umask(027);
  ASSERT_TRUE(write_file(at("file"), bytes_of("new")).ok());
  ::umask(mask);
  EXPECT_EQ(content(at("file")), "new");
  struct stat info {};
  ASSERT_EQ(::stat(at("file").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  EXPECT_EQ(entries(), 1u);
}

TEST_F(OutputTest, AFullDeviceIsAnIoErrorAndLeavesNothing) {
  const rlimit old = [] {
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    return limit;
  }();
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{2, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  auto status = write_file(at("file"), bytes_of("too long"));
  ::setrlimit(RLIMIT_FSIZE, &old);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::io);
  EXPECT_EQ(status.error().text(), "can't write: write: " + at("file") + ": File too large");
  EXPECT_EQ(entries(), 0u);
}

}  // namespace
}  // namespace loadstone::formats
