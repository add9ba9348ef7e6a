// The files of text-driven cases.
#pragma once

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "config/quant_config.hpp"

namespace loadstone::testing {

/// tests/cases/PREFIX*.yaml, sorted.
inline std::vector<std::filesystem::path> case_files(const std::string& prefix) {
  std::vector<std::filesystem::path> out;
  const std::filesystem::path dir = LOADSTONE_SOURCE_DIR "/tests/cases";
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".yaml")) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

inline Node read_cases(const std::filesystem::path& path) {
  auto text = read_text(system_files(), path.string(), 1u << 20);
  if (!text.ok()) throw std::runtime_error(text.error().text());
  auto node = config::parse_yaml(*text, path.filename().string());
  if (!node.ok()) throw std::runtime_error(node.error().text());
  return *node;
}

}  // namespace loadstone::testing
