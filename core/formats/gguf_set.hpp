// A GGUF file, or all parts of a split one, as a component.
#pragma once

#include <string>
#include <vector>

#include "formats/checkpoint.hpp"
#include "formats/gguf.hpp"
#include "formats/model_files.hpp"

namespace loadstone::formats {

class GgufSetReader {
 public:
  GgufSetReader(const ModelFiles& files, Checkpoint& checkpoint, const OpenOptions& options)
      : files_(files), checkpoint_(checkpoint), options_(options) {}

  /// `path` is any part of the set. Fills the tensors, `config` (the first part's metadata) unless
  /// a config.json has, and the declaration "gguf" (its `general.*` keys) when a tensor is of a
  /// block type.
  Status read(const std::string& path, Component& component);

 private:
  struct Part {
    std::string path;
    std::shared_ptr<const File> file;
    FileIdentity identity;
    GgufFile content;
  };

  Result<Part> open_part(const std::string& path) const;
  Result<std::vector<Part>> open_parts(const std::string& path) const;
  Status check_parts(const std::vector<Part>& parts) const;
  void add_part(Part part, Component& component);

  const ModelFiles& files_;
  Checkpoint& checkpoint_;
  const OpenOptions& options_;
};

}  // namespace loadstone::formats
