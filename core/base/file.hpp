// The seam to the file system. Everything that loadstone reads goes through FileSystem and File,
// so that tests can shorten, fail, stall or change files underneath a load.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mapping.hpp"
#include "base/result.hpp"

namespace loadstone {

/// What must not change while a checkpoint is in use.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t nbytes = 0;
  int64_t mtime_ns = 0;
  bool named = true;  // some folder still holds it: false after a rename over it or a removal
  bool operator==(const FileIdentity&) const = default;
};

/// An open regular file. Thread-safe: positions are explicit.
class File {
 public:
  virtual ~File() = default;

  /// Fills all of `into` from `offset` or fails: loops over short reads and EINTR; EOF inside the
  /// range is an `io` error "changed while reading".
  Status read_exact(std::span<std::byte> into, uint64_t offset) const;

  /// One pread: bytes read (0 at EOF) or -errno. The only call that tests override.
  virtual ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const = 0;
  /// fstat now.
  virtual Result<FileIdentity> identity() const = 0;
  /// Absolute path of the opened file itself, links followed, as the system knows it now. Decides
  /// whether an opened shard lies inside its model (a check of the name alone can be raced).
  virtual Result<std::string> resolved() const { return path(); }
  /// Maps the whole file; none where what pread gives isn't the file itself. Errors: io.
  virtual Result<std::optional<Mapping>> map() const { return std::optional<Mapping>(); }
  /// Advice before sequential reading of a range; may do nothing.
  virtual void will_need(uint64_t /*offset*/, uint64_t /*nbytes*/) const {}

  const std::string& path() const { return path_; }

 protected:
  explicit File(std::string path) : path_(std::move(path)) {}

 private:
  std::string path_;  // as the user sees it
};

enum class EntryKind : uint8_t { regular, directory, symlink, other };

struct DirectoryEntry {
  std::string name;
  EntryKind kind = EntryKind::other;  // of the entry itself, links not followed
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  /// Opens a regular file for reading without blocking on FIFOs; anything else is refused by kind
  /// ("not a regular file").
  virtual Result<std::unique_ptr<File>> open(const std::string& path) = 0;
  /// Entries of a folder sorted by name.
  virtual Result<std::vector<DirectoryEntry>> list(const std::string& path) = 0;
  virtual bool is_directory(const std::string& path) = 0;
  virtual bool is_regular(const std::string& path) = 0;
  /// Absolute path without links (realpath).
  virtual Result<std::string> resolve(const std::string& path) = 0;
};

/// The operating system's.
FileSystem& system_files();

/// Whole content of a small file, at most `max_nbytes` (refused beyond, before allocation).
Result<std::string> read_text(FileSystem& files, const std::string& path, uint64_t max_nbytes);
Result<std::string> read_text(const File& file, uint64_t max_nbytes);

}  // namespace loadstone
