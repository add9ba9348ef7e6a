// Where recorded references lie: LOADSTONE_SHARED, else ../shared beside the project.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace loadstone::testing {

inline std::filesystem::path shared_folder() {
  const char* named = std::getenv("LOADSTONE_SHARED");
  if (named != nullptr && *named != 0) return named;
  return std::filesystem::path(LOADSTONE_SOURCE_DIR) / ".." / "shared";
}

}  // namespace loadstone::testing

/// Skips visibly when `path` isn't there.
#define LS_NEEDS(path)                                                         \
  do {                                                                         \
    if (!std::filesystem::exists(path)) {                                      \
      GTEST_SKIP() << "no reference at " << (path).string()                    \
                   << " (set LOADSTONE_SHARED to the folder that holds them)"; \
    }                                                                          \
  } while (false)
