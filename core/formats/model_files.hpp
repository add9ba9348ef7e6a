// The files of one model: opens them and keeps them inside the model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/tree.hpp"

namespace loadstone::formats {

/// Where a model's files may really lie: inside its folder, or, in a hub cache, inside the blobs of
/// the same repository (snapshot files are links to them). Security checklist S13.
class Boundary {
 public:
  /// `folder`: absolute, links resolved.
  static Boundary of_folder(const std::string& folder);

  /// Lets one file of another place in: the one that the user named.
  void allow_file(std::string resolved) { files_.push_back(std::move(resolved)); }
  bool contains(const std::string& resolved) const;
  const std::string& folder() const { return folders_.front(); }

 private:
  std::vector<std::string> folders_;
  std::vector<std::string> files_;
};

class ModelFiles {
 public:
  ModelFiles(FileSystem& files, Boundary boundary)
      : files_(files), boundary_(std::move(boundary)) {}

  /// Opens a regular file and checks where the opened descriptor really lies.
  Result<std::unique_ptr<File>> open(const std::string& path) const;
  /// A JSON document; what is wrong with it is an invalid_checkpoint error.
  Result<Node> read_json(const std::string& path, uint64_t max_nbytes) const;
  /// The same, null when there is no such file.
  Result<Node> read_json_if_present(const std::string& path, uint64_t max_nbytes) const;

  FileSystem& system() const { return files_; }
  const Boundary& boundary() const { return boundary_; }

 private:
  FileSystem& files_;
  Boundary boundary_;
};

/// "folder/name", without a second slash.
std::string join_path(const std::string& folder, const std::string& name);
/// Behind the last slash.
std::string base_name(const std::string& path);

}  // namespace loadstone::formats
