#include "base/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "base/text.hpp"

namespace loadstone {
namespace {

std::string os_text(int error) { return std::generic_category().message(error); }

std::string shown(const std::string& path) { return escaped(path, PATH_MAX); }

Error failed(std::string message, const std::string& path, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  return Error{missing ? Code::not_found : Code::io, std::move(message), shown(path),
               os_text(error)};
}

std::string_view kind_text(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISSOCK(mode)) return "a socket";
  return "another kind of file";
}

Error not_regular(const std::string& path, std::string_view kind) {
  return Error{Code::invalid_checkpoint, "not a regular file", shown(path),
               fmt::format("found {}, expected a regular file", kind)};
}

FileIdentity identity_of(const struct stat& status) {
  return FileIdentity{
      .device = status.st_dev,
      .inode = status.st_ino,
      .nbytes = static_cast<uint64_t>(status.st_size),
      .mtime_ns = status.st_mtim.tv_sec * int64_t{1'000'000'000} + status.st_mtim.tv_nsec,
      .named = status.st_nlink > 0,
  };
}

// Closes on every way out, an allocation that fails among them.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

class SystemFile final : public File {
 public:
  SystemFile(std::string path, Descriptor descriptor)
      : File(std::move(path)), descriptor_(std::move(descriptor)) {}

  ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const override {
    if (offset > static_cast<uint64_t>(INT64_MAX)) return -EOVERFLOW;
    const ssize_t got =
        ::pread(descriptor_.number(), into.data(), into.size(), static_cast<off_t>(offset));
    return got < 0 ? -errno : got;
  }

  Result<FileIdentity> identity() const override {
    struct stat status {};
    if (::fstat(descriptor_.number(), &status) != 0)
      return failed("cannot stat file", path(), errno);
    return identity_of(status);
  }

  Result<std::string> resolved() const override {
    const std::string link = fmt::format("/proc/self/fd/{}", descriptor_.number());
    std::string target(PATH_MAX, '\0');
    const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
    if (length < 0) return failed("cannot resolve open file", path(), errno);
    target.resize(static_cast<size_t>(length));
    return target;
  }

  Result<std::optional<Mapping>> map() const override {
    LS_TRY(const FileIdentity now, identity());
    if (now.nbytes == 0) return std::optional<Mapping>(Mapping());
    void* at = ::mmap(nullptr, now.nbytes, PROT_READ, MAP_SHARED, descriptor_.number(), 0);
    if (at == MAP_FAILED) return failed("cannot map file", path(), errno);
    return std::optional(Mapping(static_cast<const std::byte*>(at), now.nbytes));
  }

  void will_need(uint64_t offset, uint64_t nbytes) const override {
    (void)::posix_fadvise(descriptor_.number(), static_cast<off_t>(offset),
                          static_cast<off_t>(nbytes), POSIX_FADV_WILLNEED);
  }

 private:
  Descriptor descriptor_;
};

EntryKind kind_of(const dirent& entry, int folder) {
  switch (entry.d_type) {
    case DT_REG:
      return EntryKind::regular;
    case DT_DIR:
      return EntryKind::directory;
    case DT_LNK:
      return EntryKind::symlink;
    case DT_UNKNOWN:
      break;  // file systems that don't tell: ask
    default:
      return EntryKind::other;
  }
  struct stat status {};
  if (::fstatat(folder, entry.d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) return EntryKind::other;
  if (S_ISREG(status.st_mode)) return EntryKind::regular;
  if (S_ISDIR(status.st_mode)) return EntryKind::directory;
  return S_ISLNK(status.st_mode) ? EntryKind::symlink : EntryKind::other;
}

class SystemFiles final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path) override {
    LS_CHECK(check_path(path));
    // O_NONBLOCK: opening a FIFO without a writer would wait for ever. No effect on regular files.
    Descriptor descriptor(::openat(AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (descriptor.number() < 0) {
      if (errno == ENXIO) return not_regular(path, "a socket or a device without a driver");
      return failed("cannot open file", path, errno);
    }
    struct stat status {};
    if (::fstat(descriptor.number(), &status) != 0) return failed("cannot stat file", path, errno);
    if (!S_ISREG(status.st_mode)) return not_regular(path, kind_text(status.st_mode));
    return std::unique_ptr<File>(std::make_unique<SystemFile>(path, std::move(descriptor)));
  }

  Result<std::vector<DirectoryEntry>> list(const std::string& path) override {
    LS_CHECK(check_path(path));
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
    if (folder == nullptr) return failed("cannot list folder", path, errno);
    std::vector<DirectoryEntry> entries;
    errno = 0;
    while (const dirent* entry = ::readdir(folder.get())) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") {
        entries.push_back({name, kind_of(*entry, ::dirfd(folder.get()))});
      }
      errno = 0;
    }
    if (errno != 0) return failed("cannot list folder", path, errno);
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
  }

  bool is_directory(const std::string& path) override { return has_mode(path, S_IFDIR); }
  bool is_regular(const std::string& path) override { return has_mode(path, S_IFREG); }

  Result<std::string> resolve(const std::string& path) override {
    LS_CHECK(check_path(path));
    const std::unique_ptr<char, void (*)(void*)> found(::realpath(path.c_str(), nullptr),
                                                       std::free);
    if (found == nullptr) return failed("cannot resolve path", path, errno);
    return std::string(found.get());
  }

 private:
  // The system's calls end at a NUL: a path with one would name another file than it shows.
  static Status check_path(const std::string& path) {
    if (path.find('\0') == std::string::npos) return {};
    return Error{Code::not_found, "cannot open path", shown(path),
                 "found a NUL byte, expected a path"};
  }

  static bool has_mode(const std::string& path, mode_t mode) {
    struct stat status {};
    return check_path(path).ok() && ::stat(path.c_str(), &status) == 0 &&
           (status.st_mode & S_IFMT) == mode;
  }
};

}  // namespace

Status File::read_exact(std::span<std::byte> into, uint64_t offset) const {
  const uint64_t begin = offset;
  const uint64_t wanted = into.size();
  while (!into.empty()) {
    const ssize_t got = pread_some(into, offset);
    if (got == -EINTR) continue;
    if (got < 0) {
      return Error{Code::io, "read failed", shown(path_),
                   fmt::format("{} at byte {}", os_text(static_cast<int>(-got)), offset)};
    }
    if (got == 0) {
      return Error{Code::io, "file changed while reading", shown(path_),
                   fmt::format("found its end at byte {}, expected {} bytes at [{}, {})", offset,
                               wanted, begin, begin + wanted)};
    }
    into = into.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

FileSystem& system_files() {
  static SystemFiles instance;
  return instance;
}

Result<std::string> read_text(const File& file, uint64_t max_nbytes) {
  LS_TRY(const FileIdentity identity, file.identity());
  if (identity.nbytes > max_nbytes) {
    return Error{Code::invalid_checkpoint, "file is too large", shown(file.path()),
                 fmt::format("found {} bytes, expected at most {}", identity.nbytes, max_nbytes)};
  }
  std::string text(identity.nbytes, '\0');
  LS_CHECK(file.read_exact(std::as_writable_bytes(std::span(text)), 0));
  return text;
}

Result<std::string> read_text(FileSystem& files, const std::string& path, uint64_t max_nbytes) {
  LS_TRY(const std::unique_ptr<File> file, files.open(path));
  return read_text(*file, max_nbytes);
}

}  // namespace loadstone
