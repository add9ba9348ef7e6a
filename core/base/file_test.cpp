#include "base/file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/testing/faulty_file.hpp"
#include "base/testing/temp_folder.hpp"

namespace loadstone {
namespace {

class FileTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return temp_.path(name); }
  std::string write(const std::string& name, const std::string& content) {
    return temp_.write(name, content);
  }
  std::string error_of(const std::string& name) {
    auto opened = system_files().open(path(name));
    if (opened.ok()) return "opened";
    std::string text = opened.error().text();
    const size_t at = text.find(folder_ + "/");
    return at == std::string::npos ? text : text.erase(at, folder_.size() + 1);
  }

  const loadstone::testing::TempFolder temp_;
  const std::string folder_ = temp_.path();
  testing::FaultyFileSystem faulty_;
};

std::string read_through(FileSystem& files, const std::string& path, uint64_t nbytes,
                         uint64_t offset) {
  auto file = files.open(path);
  if (!file.ok()) return file.error().text();
  std::string out(nbytes, '?');
  const Status status = (*file)->read_exact(std::as_writable_bytes(std::span(out)), offset);
  return status.ok() ? out : status.error().text();
}

TEST_F(FileTest, S01_OnlyRegularFilesOpen) {
  std::filesystem::create_directory(path("folder"));
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);  // must not wait for a writer
  EXPECT_EQ(error_of("folder"),
            "not a regular file: folder: found a directory, expected a regular file");
  EXPECT_EQ(error_of("fifo"), "not a regular file: fifo: found a FIFO, expected a regular file");
  EXPECT_EQ(error_of("none"), "cannot open file: none: No such file or directory");
  auto device = system_files().open("/dev/null");
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.error().text(),
            "not a regular file: /dev/null: found a device, expected a regular file");
  EXPECT_EQ(system_files().open(std::string("a\0b", 3)).error().text(),
            "cannot open path: a\\0b: found a NUL byte, expected a path");
}

TEST_F(FileTest, S42_ShortReadsAndInterruptsAreCompleted) {
  const std::string file = write("a", "0123456789");
  faulty_.faults().max_read = 3;
  faulty_.faults().eintr_every = 2;
  EXPECT_EQ(read_through(faulty_, file, 10, 0), "0123456789");
  EXPECT_EQ(read_through(faulty_, file, 4, 5), "5678");
  EXPECT_GT(faulty_.faults().reads, 6u);
}

TEST_F(FileTest, S42_ErrorsNameFileAndOffset) {
  const std::string file = write("a", "0123456789");
  faulty_.faults().max_read = 4;
  faulty_.faults().fail_read = 2;
  EXPECT_EQ(read_through(faulty_, file, 10, 1),
            "read failed: " + file + ": Input/output error at byte 5");
  faulty_.faults().fail_errno = ESTALE;
  EXPECT_EQ(read_through(faulty_, file, 10, 1),
            "read failed: " + file + ": Stale file handle at byte 1");
}

TEST_F(FileTest, S42_EndInsideTheRangeIsAChange) {
  const std::string file = write("a", "0123456789");
  EXPECT_EQ(read_through(system_files(), file, 10, 4),
            "file changed while reading: " + file +
                ": found its end at byte 10, expected 10 bytes at [4, 14)");
}

TEST_F(FileTest, IdentityFollowsTheFile) {
  const std::string name = write("a", "0123");
  auto file = system_files().open(name);
  ASSERT_TRUE(file.ok());
  const auto before = (*file)->identity();
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->nbytes, 4u);
  write("a", "01234");
  EXPECT_FALSE(*(*file)->identity() == *before);
  EXPECT_EQ(*(*file)->resolved(), *system_files().resolve(name));
}

TEST_F(FileTest, ListsSortedWithKinds) {
  write("b", "");
  std::filesystem::create_directory(path("a"));
  std::filesystem::create_symlink("b", path("c"));
  ASSERT_EQ(::mkfifo(path("d").c_str(), 0600), 0);
  auto entries = system_files().list(folder_);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 4u);
  const EntryKind kinds[] = {EntryKind::directory, EntryKind::regular, EntryKind::symlink,
                             EntryKind::other};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ((*entries)[i].name, std::string(1, static_cast<char>('a' + i)));
    EXPECT_EQ((*entries)[i].kind, kinds[i]);
  }
  EXPECT_EQ(system_files().list(path("none")).error().code, Code::not_found);
}

TEST_F(FileTest, ReadTextRefusesLargeFilesBeforeReading) {
  const std::string file = write("a", "0123456789");
  EXPECT_EQ(*read_text(faulty_, file, 10), "0123456789");
  const uint64_t reads = faulty_.faults().reads;
  EXPECT_EQ(read_text(faulty_, file, 9).error().text(),
            "file is too large: " + file + ": found 10 bytes, expected at most 9");
  EXPECT_EQ(faulty_.faults().reads, reads);
}

}  // namespace
}  // namespace loadstone
