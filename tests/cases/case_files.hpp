// The files of text-driven cases, and which cases of them run.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "config/quant_config.hpp"

/// Told what comes next, by a program that wants to know what each case meets (tests/mutation):
/// "Plans.Cases plan.yaml:12:5", or "" for what belongs to no case.
extern "C" __attribute__((weak)) void loadstone_case_begins(const char* place);

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
  if (loadstone_case_begins) loadstone_case_begins("");
  auto text = read_text(system_files(), path.string(), 1u << 20);
  if (!text.ok()) throw std::runtime_error(text.error().text());
  auto node = config::parse_yaml(*text, path.filename().string());
  if (!node.ok()) throw std::runtime_error(node.error().text());
  return *node;
}

/// LOADSTONE_CASES="plan.yaml:12:5 plan.yaml:30:5" leaves all others out.
inline bool runs(const Node& one) {
  const std::string place = one.mark().text();
  static const char* const chosen = std::getenv("LOADSTONE_CASES");
  static const std::string all = chosen ? " " + std::string(chosen) + " " : "";
  if (chosen && all.find(" " + place + " ") == std::string::npos) return false;
  const auto& test = *::testing::UnitTest::GetInstance()->current_test_info();
  const std::string name = std::string(test.test_suite_name()) + "." + test.name() + " " + place;
  if (loadstone_case_begins) loadstone_case_begins(name.c_str());
  return true;
}

}  // namespace loadstone::testing
