// A folder that loadstone writes: whole under its name, or not there at all, also after a kill at
// any point (security checklist S43).
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"

namespace loadstone::formats {

/// A temporary folder beside `path` that takes its name on commit; without commit it is removed
/// with all that was written into it. A process that is killed leaves the temporary folder
/// (".loadstone-XXXXXX"), which no reader looks into. One thread.
class OutputFolder {
 public:
  /// `overwrite`: what stands at `path` is exchanged in one step; it must be a folder that holds a
  /// model. Errors: invalid_argument ("-", something else at `path`, a missing or unwritable
  /// parent).
  static Result<OutputFolder> create(const std::string& path, bool overwrite);
  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder();

  /// Where to write: the temporary folder.
  const std::string& staging() const { return staging_; }
  const std::string& path() const { return path_; }
  /// Other folders of this kind beside it: leftovers, or of a program that runs now.
  const std::vector<std::string>& others() const { return others_; }

  /// Makes the folder below staging() and those above it.
  Status make(const std::string& relative);
  /// Flushes every folder (files are flushed when they are written) and renames; what stood there
  /// is removed. Errors: io, invalid_argument (something appeared at `path` meanwhile).
  Status commit();

 private:
  OutputFolder(std::string path, std::string parent, std::string staging, bool exchange)
      : path_(std::move(path)),
        parent_(std::move(parent)),
        staging_(std::move(staging)),
        exchange_(exchange) {}

  std::string path_, parent_, staging_;
  std::vector<std::string> others_;
  bool exchange_ = false;  // something stands at `path`
};

}  // namespace loadstone::formats
