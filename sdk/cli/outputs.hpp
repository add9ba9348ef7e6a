// Files and folders that a command writes, reserved before the work starts: a path that can't be
// written is an error after milliseconds and not after an hour.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "formats/output_file.hpp"

namespace loadstone::cli {

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

/// A text or picture to write, whole or not at all.
class Output {
 public:
  /// In an existing folder. Errors: invalid_argument.
  static Result<Output> reserve(const std::string& path);
  /// Makes missing folders too.
  static Result<Output> reserve_with_folders(const std::string& path);

  const std::string& path() const { return file_.path(); }
  /// Writes the content and puts it in place. Errors: io.
  Status write(std::string_view bytes);

 private:
  Output(std::optional<OutputFolder> folder, formats::OutputFile file)
      : folder_(std::move(folder)), file_(std::move(file)) {}
  std::optional<OutputFolder> folder_;  // outlives the file, so that it is empty when removed
  formats::OutputFile file_;
};

}  // namespace loadstone::cli
