#include "output_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/text.hpp"

namespace loadstone::cli {
namespace {

namespace fs = std::filesystem;

Error refused(const std::string& path, const std::string& found, const std::string& expected,
              const std::string& hint = "") {
  return Error{Code::invalid_argument,
               "output path refused",
               escaped(path),
               "found " + found + ", expected " + expected,
               hint,
               {}};
}

Error failed(const std::string& path, const char* what, int code) {
  return Error{Code::io,
               "output not written",
               escaped(path),
               std::string(what) + ": " + std::strerror(code),
               "",
               {}};
}

std::string kind_of(fs::file_type type) {
  switch (type) {
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::character:
      return "a character device";
    case fs::file_type::block:
      return "a block device";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    default:
      return "no regular file";
  }
}

std::string parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

/// Makes `folder` and its parents. The outermost one made, "" if none was missing.
Result<std::string> make_folders(const std::string& folder, const std::string& for_path) {
  std::string first_made;
  std::error_code code;
  for (fs::path at = folder; !at.empty() && !fs::exists(at, code); at = at.parent_path()) {
    first_made = at.string();
    if (at == at.parent_path()) break;
  }
  fs::create_directories(folder, code);
  if (code) {
    return refused(for_path, code.message() + " while making " + loadstone::quoted(folder),
                   "a place to write to");
  }
  return first_made;
}

/// Creates the file that proves that the folder takes one.
Status touch(const std::string& temporary, const std::string& path) {
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) {
    return refused(path,
                   std::string(std::strerror(errno)) + " in " + loadstone::quoted(parent_of(path)),
                   "a folder that can be written to");
  }
  ::close(fd);
  return {};
}

int write_fully(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return 0;
}

}  // namespace

Result<OutputFile> OutputFile::reserve(const std::string& path, Parents parents) {
  if (path.empty()) return refused(path, "an empty name", "a file name");
  if (path == "-") return refused(path, "standard output", "a file name", "./-");
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return refused(path, kind_of(status.type()), "a regular file or a new name");
  }
  if (fs::path(path).filename().empty()) return refused(path, "a folder", "a file name");
  const std::string folder = parent_of(path);
  std::optional<OutputFolder> made;
  if (!fs::is_directory(folder, code)) {
    if (parents == Parents::must_exist || fs::exists(folder, code)) {
      return refused(path, "no folder " + loadstone::quoted(folder), "an existing folder");
    }
    LS_TRY(OutputFolder parents_made, OutputFolder::reserve(folder));
    made.emplace(std::move(parents_made));
  }
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  LS_CHECK(touch(temporary, path));
  return OutputFile(path, temporary, std::move(made));
}

OutputFile::OutputFile(std::string path, std::string temporary, std::optional<OutputFolder> parents)
    : path_(std::move(path)), temporary_(std::move(temporary)), parents_(std::move(parents)) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      parents_(std::move(other.parents_)) {}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status OutputFile::write(std::string_view bytes) {
  const int fd = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return failed(path_, "open", errno);
  const int code = write_fully(fd, bytes);
  ::close(fd);
  if (code != 0) return failed(path_, "write", code);
  return commit();
}

Status OutputFile::commit() {
  const int fd = ::open(temporary_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(path_, "open", errno);
  const int code = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (code != 0) return failed(path_, "sync", code);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed(path_, "rename", errno);
  temporary_.clear();
  return {};
}

Result<OutputFolder> OutputFolder::reserve(const std::string& path) {
  if (path.empty()) return refused(path, "an empty name", "a folder");
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (fs::exists(status) && !fs::is_directory(status)) {
    return refused(path,
                   status.type() == fs::file_type::regular ? "a file" : kind_of(status.type()),
                   "a folder or a new name");
  }
  LS_TRY(std::string first_made, make_folders(path, path));
  OutputFolder folder(path, std::move(first_made));
  const std::string probe = path + "/.tmp." + std::to_string(::getpid());
  LS_CHECK(touch(probe, probe));
  ::unlink(probe.c_str());
  return folder;
}

OutputFolder::OutputFolder(std::string path, std::string first_made)
    : path_(std::move(path)), first_made_(std::move(first_made)) {}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)), first_made_(std::exchange(other.first_made_, "")) {}

OutputFolder::~OutputFolder() {
  if (first_made_.empty()) return;
  std::error_code code;
  for (fs::path at = path_; !at.empty(); at = at.parent_path()) {
    if (!fs::remove(at, code) || at == fs::path(first_made_)) break;  // removes empty ones only
  }
}

}  // namespace loadstone::cli
