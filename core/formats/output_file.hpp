// Files that loadstone writes: complete under their name, or not there at all.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.hpp"

namespace loadstone::formats {

/// Whether a file can be written at `path`, found out before long work: its folder exists and takes
/// a new file, and what stands there, if anything, is a regular writable file. Leaves nothing.
/// Errors: invalid_argument ("-", a folder, a device or pipe, a missing or unwritable folder).
Status check_output_path(const std::string& path);

/// Writes to a temporary file beside `path` that takes its name on commit; without commit it is
/// removed. One thread.
class OutputFile {
 public:
  /// Errors: as check_output_path.
  static Result<OutputFile> create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  /// Appends. Errors: io (no space, EIO).
  Status write(std::span<const std::byte> bytes);
  /// Flushes to the device and renames. Errors: io.
  Status commit();

  const std::string& path() const { return path_; }

 private:
  OutputFile(std::string path, std::string temporary, int descriptor)
      : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}
  void discard();

  std::string path_, temporary_;
  int descriptor_ = -1;
};

/// The whole content in one call.
Status write_file(const std::string& path, std::span<const std::byte> bytes);

}  // namespace loadstone::formats
