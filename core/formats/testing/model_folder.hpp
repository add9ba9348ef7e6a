// A model folder that a test lays out.
#pragma once

#include <string>

#include "base/testing/temp_folder.hpp"
#include "formats/checkpoint.hpp"
#include "formats/testing/containers.hpp"

namespace loadstone::formats::testing {

class ModelFolder : public loadstone::testing::TempFolder {
 public:
  /// A safetensors file of one-byte tensors.
  std::string weights(const std::string& name, const std::vector<std::string>& tensors) const {
    Safetensors file;
    for (const std::string& tensor : tensors) file.zeros(tensor, "U8", "[1]", 1);
    return write(name, file.bytes());
  }

  Result<Checkpoint> open(const std::string& name = "", const OpenOptions& options = {}) const {
    return open_checkpoint(system_files(), name.empty() ? path() : path(name), options);
  }

  /// The error's text without this folder's path; "opened" when there is none.
  std::string error(const std::string& name = "", const OpenOptions& options = {}) const {
    auto opened = open(name, options);
    return opened.ok() ? "opened" : without_path(opened.error().text());
  }
};

}  // namespace loadstone::formats::testing
