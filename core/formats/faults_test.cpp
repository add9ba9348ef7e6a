// What reading does when the file system or the memory fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/testing/failing_new.hpp"
#include "base/testing/faulty_file.hpp"
#include "formats/checkpoint.hpp"
#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using loadstone::testing::allocations_left;
using loadstone::testing::FaultyFileSystem;
using testing::Gguf;
using ::testing::HasSubstr;
using testing::ModelFolder;

size_t open_descriptors() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}

// A diffusers folder with shards, a declaration and a marker; and a GGUF file.
class FaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_.write("model_index.json",
                 R"({"transformer":["diffusers","T"],"vae":["diffusers","V"]})");
    model_.write("transformer/config.json", R"({"quantization_config":{"quant_method":"fp8"}})");
    model_.write("transformer/model.safetensors.index.json",
                 R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
    model_.weights("transformer/1.safetensors", {"a"});
    model_.weights("transformer/2.safetensors", {"b"});
    model_.weights("vae/model.safetensors", {"v"});
    gguf_ = model_.write(
        "x/m.gguf", Gguf().str("general.architecture", "flux").tensor("a", {32}, 2, 18).bytes());
  }
  std::vector<std::string> paths() const { return {model_.path(), gguf_}; }

  ModelFolder model_;
  std::string gguf_;
};

TEST_F(FaultsTest, S42_ShortReadsAndInterruptsAreCompleted) {
  for (const std::string& path : paths()) {
    const auto expected = open_checkpoint(system_files(), path);
    ASSERT_TRUE(expected.ok()) << expected.error().text();
    FaultyFileSystem files;
    files.faults().max_read = 1;
    files.faults().eintr_every = 2;
    const auto opened = open_checkpoint(files, path);
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    EXPECT_EQ(opened->to_node(true), expected->to_node(true));
  }
}

TEST_F(FaultsTest, S42_EveryFailingReadIsOneIoError) {
  for (const std::string& path : paths()) {
    FaultyFileSystem probe;
    ASSERT_TRUE(open_checkpoint(probe, path).ok());
    const uint64_t reads = probe.faults().reads;
    ASSERT_GT(reads, 1u);
    for (const int error : {EIO, ESTALE}) {
      for (uint64_t nth = 1; nth <= reads; ++nth) {
        FaultyFileSystem files;
        files.faults().fail_read = nth;
        files.faults().fail_errno = error;
        const size_t before = open_descriptors();
        const auto opened = open_checkpoint(files, path);
        ASSERT_FALSE(opened.ok()) << nth;
        EXPECT_EQ(opened.error().code, Code::io);
        EXPECT_THAT(opened.error().text(),
                    HasSubstr(error == EIO ? "Input/output error at byte " : "Stale file handle"));
        EXPECT_EQ(open_descriptors(), before);
      }
    }
  }
}

TEST_F(FaultsTest, S42_EveryFailingOpenIsOneError) {
  FaultyFileSystem probe;
  ASSERT_TRUE(open_checkpoint(probe, model_.path()).ok());
  const uint64_t opens = probe.faults().opens;
  for (uint64_t nth = 1; nth <= opens; ++nth) {
    FaultyFileSystem files;
    files.faults().fail_open = nth;
    const size_t before = open_descriptors();
    const auto opened = open_checkpoint(files, model_.path());
    ASSERT_FALSE(opened.ok()) << nth;
    EXPECT_EQ(opened.error().code, Code::io);
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST_F(FaultsTest, S42_AFileThatShrinksWhileItsHeaderIsRead) {
  for (uint64_t end = 0; end < 60; end += 7) {
    FaultyFileSystem files;
    files.faults().only = "vae/";
    files.faults().end_of_file = end;
    const auto opened = open_checkpoint(files, model_.path());
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code, Code::io);
    EXPECT_THAT(opened.error().text(), HasSubstr("file changed while reading: " + model_.path() +
                                                 "/vae/model.safetensors: found its end at byte "));
  }
}

TEST_F(FaultsTest, S42_ChangesAfterOpeningAreFound) {
  const auto check = [&](auto change) {
    ModelFolder folder;
    const std::string file = folder.weights("model.safetensors", {"a"});
    const auto opened = folder.open();
    EXPECT_TRUE(opened.ok());
    EXPECT_TRUE(check_unchanged(*opened).ok());
    change(folder, file);
    const Status status = check_unchanged(*opened);
    if (status.ok()) return std::string("unchanged");
    EXPECT_EQ(status.error().code, Code::io);
    return folder.without_path(status.error().text());
  };
  const std::string changed = "file changed while reading: model.safetensors: found ";
  const std::string expected = ", expected the file as it was opened";
  const std::string size =
      std::to_string(testing::Safetensors().zeros("a", "U8", "[1]", 1).bytes().size());
  EXPECT_EQ(
      check([](ModelFolder&, const std::string& file) { std::filesystem::resize_file(file, 3); }),
      changed + "3 bytes where there were " + size + expected);
  EXPECT_EQ(check([](ModelFolder& folder, const std::string& file) {
              std::filesystem::rename(folder.write("new", "x"), file);
            }),
            changed + "it replaced or removed" + expected);
  EXPECT_EQ(check([](ModelFolder&, const std::string& file) { std::filesystem::remove(file); }),
            changed + "it replaced or removed" + expected);
  EXPECT_EQ(check([](ModelFolder&, const std::string& file) {
              std::filesystem::last_write_time(
                  file, std::filesystem::last_write_time(file) + std::chrono::seconds(1));
            }),
            changed + "a later modification time" + expected);
}

TEST_F(FaultsTest, EveryFailingAllocationIsOneErrorAndLeaksNothing) {
  for (const std::string& path : paths()) {
    const auto expected = open_checkpoint(system_files(), path);
    ASSERT_TRUE(expected.ok());
    for (int64_t nth = 0;; ++nth) {
      ASSERT_LT(nth, 100'000);
      const size_t before = open_descriptors();
      allocations_left = nth;
      auto opened = open_checkpoint(system_files(), path);
      allocations_left = -1;
      if (opened.ok()) {
        EXPECT_GT(nth, 20);
        EXPECT_EQ(opened->to_node(true), expected->to_node(true));
        break;
      }
      EXPECT_EQ(opened.error().code, Code::resource) << nth << ": " << opened.error().text();
      EXPECT_EQ(open_descriptors(), before);
    }
  }
}

}  // namespace
}  // namespace loadstone::formats
