// Files that a command writes. They are reserved before the work starts, so that a path that can't
// be written is an error after milliseconds and not after an hour, and they appear whole or not at
// all: content goes to NAME.tmp.PID beside the target and is renamed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace loadstone::cli {

enum class Parents { must_exist, create };

/// A folder to write into, created if missing. Errors: invalid_argument: no folder, unwritable.
class OutputFolder {
 public:
  static Result<OutputFolder> reserve(const std::string& path);
  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&&) = delete;
  /// Removes the folders that reserve() made and that are still empty.
  ~OutputFolder();

  const std::string& path() const { return path_; }

 private:
  OutputFolder(std::string path, std::string first_made);
  std::string path_, first_made_;
};

class OutputFile {
 public:
  /// Errors: invalid_argument: an empty name, "-", a folder, a device, a missing or unwritable
  /// folder.
  static Result<OutputFile> reserve(const std::string& path, Parents parents = Parents::must_exist);

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();  // removes the temporary file

  const std::string& path() const { return path_; }
  /// For writers that open files themselves; `commit()` afterwards.
  const std::string& temporary_path() const { return temporary_; }
  /// Writes the content and puts it in place. Errors: io.
  Status write(std::string_view bytes);
  /// Puts what lies at temporary_path() in place: synced, then renamed. Errors: io.
  Status commit();

 private:
  OutputFile(std::string path, std::string temporary, std::optional<OutputFolder> parents);
  std::string path_, temporary_;
  std::optional<OutputFolder> parents_;  // made for this file
};

}  // namespace loadstone::cli
