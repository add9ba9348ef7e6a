#include "formats/output_folder.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>  // renameat2
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = ".loadstone-";

Error refused(const std::string& path, std::string found, std::string expected,
              std::string hint = "") {
  return Error{
      Code::invalid_argument, "output folder rejected",
      escaped(path),          "found " + std::move(found) + ", expected " + std::move(expected),
      std::move(hint),        {}};
}

Error failed(const std::string& path, const char* call, int number) {
  return Error{Code::io, std::string("can't write: ") + call, escaped(path), std::strerror(number),
               ""};  // NOLINT(concurrency-mt-unsafe)
}

/// A folder with a model's files, or an empty one: what may be replaced.
bool holds_model(const std::string& path) {
  std::error_code code;
  if (fs::is_empty(path, code) && !code) return true;
  for (const auto& entry : fs::directory_iterator(path, code)) {
    const std::string name = entry.path().filename().string();
    if (name == "model_index.json" || name == "config.json" || name.ends_with(".safetensors") ||
        name.ends_with(".gguf")) {
      return true;
    }
  }
  return false;
}

/// True when something stands at `path` that is to be exchanged.
Result<bool> check_existing(const std::string& path, bool overwrite) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return false;
    const char* reason = std::strerror(errno);  // NOLINT(concurrency-mt-unsafe)
    return refused(path, reason, "a name in a folder that exists");
  }
  if (S_ISLNK(found.st_mode)) return refused(path, "a link", "a new name or a model's folder");
  if (!S_ISDIR(found.st_mode)) return refused(path, "a file", "a new name or a model's folder");
  if (!overwrite) return refused(path, "a folder", "a new name", "--overwrite");
  if (!holds_model(path)) {
    return refused(path, "a folder without a model", "a new name or a model's folder");
  }
  return true;
}

Status sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return failed(path, "open", errno);
  const int status = ::fsync(descriptor);
  const int number = errno;
  ::close(descriptor);
  if (status != 0) return failed(path, "fsync", number);
  return {};
}

}  // namespace

Result<OutputFolder> OutputFolder::create(const std::string& path, bool overwrite) {
  std::string name = path;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  const fs::path as_path(name);
  if (name.empty() || name == "-" || !as_path.has_filename() || as_path.filename() == "." ||
      as_path.filename() == "..") {
    return refused(path, loadstone::quoted(path), "a folder's name");
  }
  const std::string parent = as_path.has_parent_path() ? as_path.parent_path().string() : ".";
  std::error_code code;
  if (!fs::is_directory(parent, code)) {
    return refused(path, "no folder " + loadstone::quoted(parent), "one that exists");
  }
  LS_TRY(const bool exchange, check_existing(name, overwrite));
  std::vector<std::string> others;
  for (const auto& entry : fs::directory_iterator(parent, code)) {
    if (entry.path().filename().string().starts_with(kPrefix) && entry.is_directory(code)) {
      others.push_back(entry.path().string());
    }
  }
  std::string staging = (fs::path(parent) / (std::string(kPrefix) + "XXXXXX")).string();
  if (::mkdtemp(staging.data()) == nullptr) {
    const char* reason = std::strerror(errno);  // NOLINT(concurrency-mt-unsafe)
    return refused(path, "a folder that takes no new entry (" + std::string(reason) + ")",
                   "a writable one");
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::chmod(staging.c_str(), 0777 & ~mask);
  OutputFolder folder(std::move(name), parent, std::move(staging), exchange);
  folder.others_ = std::move(others);
  return folder;
}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)),
      parent_(std::move(other.parent_)),
      staging_(std::exchange(other.staging_, "")),
      others_(std::move(other.others_)),
      exchange_(other.exchange_) {}

OutputFolder::~OutputFolder() {
  if (staging_.empty()) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

Status OutputFolder::make(const std::string& relative) {
  std::error_code code;
  fs::create_directories(fs::path(staging_) / relative, code);
  if (code) return failed(path_, "mkdir", code.value());
  return {};
}

Status OutputFolder::commit() {
  std::error_code code;
  for (const auto& entry : fs::recursive_directory_iterator(staging_, code)) {
    if (entry.is_directory()) LS_CHECK(sync_folder(entry.path().string()));
  }
  if (code) return failed(path_, "list", code.value());
  LS_CHECK(sync_folder(staging_));
  const unsigned flags = exchange_ ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), flags) != 0) {
    if (errno == EEXIST) return refused(path_, "one that appeared meanwhile", "a new name");
    return failed(path_, "rename", errno);
  }
  // Under the temporary name now: what stood there before, or nothing.
  const std::string old = std::exchange(staging_, "");
  LS_CHECK(sync_folder(parent_));
  if (exchange_) {
    fs::remove_all(old, code);
    if (code) return failed(old, "remove", code.value());
  }
  return {};
}

}  // namespace loadstone::formats
