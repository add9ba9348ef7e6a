#include "formats/output_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

Error refused(const std::string& path, std::string found, std::string expected,
              Code code = Code::invalid_argument) {
  return Error{code,
               "output path rejected",
               escaped(path),
               "found " + std::move(found) + ", expected " + std::move(expected),
               "",
               {}};
}

Error failed(const std::string& path, const char* call, int number) {
  return Error{
      Code::io, std::string("can't write: ") + call, escaped(path), std::strerror(number), "",
      {}};  // NOLINT(concurrency-mt-unsafe)
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status check_existing(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};  // nothing there: the folder decides
  if (S_ISDIR(info.st_mode)) return refused(path, "a folder", "a file name");
  if (!S_ISREG(info.st_mode)) return refused(path, "a device, pipe or socket", "a regular file");
  if (::access(path.c_str(), W_OK) != 0) return refused(path, "a read-only file", "a writable one");
  return {};
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path) {
  if (path.empty() || path == "-") {
    return refused(path, quoted(path), "a file name (standard output takes no binary file)");
  }
  if (path.back() == '/') return refused(path, "a folder's name", "a file name");
  LS_CHECK(check_existing(path));
  const std::string folder = folder_of(path);
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return refused(path, "no folder " + quoted(folder), "one that exists");
  }
  // Not named after the target: its name may already have the longest length allowed.
  std::string temporary = folder + "/.loadstone-XXXXXX";
  const int descriptor = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor < 0) {
    const char* reason = std::strerror(errno);  // NOLINT(concurrency-mt-unsafe)
    return refused(path, "a folder that takes no new file (" + std::string(reason) + ")",
                   "a writable one");
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor, 0666 & ~mask);
  return OutputFile(path, std::move(temporary), descriptor);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    discard();
    path_ = std::move(other.path_);
    temporary_ = std::move(other.temporary_);
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
  descriptor_ = -1;
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return failed(path_, "write", errno);
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status OutputFile::commit() {
  if (::fsync(descriptor_) != 0) return failed(path_, "fsync", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed(path_, "rename", errno);
  ::close(std::exchange(descriptor_, -1));
  return {};
}

Status check_output_path(const std::string& path) {
  auto file = OutputFile::create(path);
  if (!file) return std::move(file).error();
  return {};
}

Status write_file(const std::string& path, std::span<const std::byte> bytes) {
  LS_TRY(OutputFile file, OutputFile::create(path));
  LS_CHECK(file.write(bytes));
  return file.commit();
}

}  // namespace loadstone::formats
