// A folder of a test's own, gone with it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace loadstone::testing {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "loadstone-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string path(const std::string& name) const { return path_ + "/" + name; }

  /// Writes a file (folders in between are made) and returns its path.
  std::string write(const std::string& name, std::string_view content) const {
    const std::filesystem::path at = path(name);
    std::filesystem::create_directories(at.parent_path());
    std::ofstream stream(at, std::ios::binary);
    stream.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!stream.flush()) throw std::runtime_error("cannot write " + at.string());
    return at.string();
  }

  /// Error texts name files of this folder: takes its path out of them.
  std::string without_path(std::string text) const {
    for (size_t at = text.find(path_); at != std::string::npos; at = text.find(path_, at)) {
      const bool slash = at + path_.size() < text.size() && text[at + path_.size()] == '/';
      text.replace(at, path_.size() + (slash ? 1 : 0), slash ? "" : ".");
    }
    return text;
  }

 private:
  std::string path_;
};

}  // namespace loadstone::testing
