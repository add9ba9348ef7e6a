// Reads one component: its weight files' headers, its config and its declarations.
#pragma once

#include <string>
#include <vector>

#include "formats/checkpoint.hpp"
#include "formats/model_files.hpp"
#include "formats/shard_index.hpp"
#include "formats/weight_files.hpp"

namespace loadstone::formats {

/// A folder as the layout rules see it.
struct FolderListing {
  std::vector<std::string> names;    // files (links to files included), sorted
  std::vector<std::string> folders;  // direct subfolders, sorted, hidden ones left out
  bool has_config = false;           // config.json
  WeightFiles weights;

  bool has_weights() const {
    return !weights.index.empty() || !weights.file.empty() || !weights.several.empty();
  }
};

class ComponentReader {
 public:
  ComponentReader(const ModelFiles& files, Checkpoint& checkpoint, const OpenOptions& options)
      : files_(files), checkpoint_(checkpoint), options_(options) {}

  Result<FolderListing> list(const std::string& folder);

  /// Fills everything but name and folder.
  Status read_folder(const std::string& folder, const FolderListing& listing, Component& component);
  /// Safetensors files of unknown names beside one config: a component each, named by its stem.
  Status read_files_as_components(const std::string& folder, const FolderListing& listing);
  /// A safetensors file or any part of a GGUF set, decided by content.
  Status read_single_file(const std::string& path, Component& component);

  /// The error for a file that holds no tensors we read: what it is by content.
  Error refuse(const std::string& path);

 private:
  Status read_config(const std::string& folder, const FolderListing& listing, Component& component);
  Status read_index(const std::string& folder, const FolderListing& listing, Component& component);
  Status read_safetensors(std::unique_ptr<File> file, Component& component);
  Status read_gguf_set(const std::string& path, Component& component);
  Status read_weight_file(const std::string& path, Component& component);
  void note_unread(const std::string& folder, const std::vector<std::string>& unread);

  const ModelFiles& files_;
  Checkpoint& checkpoint_;
  const OpenOptions& options_;
};

}  // namespace loadstone::formats
