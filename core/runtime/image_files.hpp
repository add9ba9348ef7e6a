// Pictures as files: names of several, checks before the run, writing.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::runtime {

/// FILE.png for one picture; FILE_0.png, FILE_1.png, … for several.
std::vector<std::string> picture_paths(const std::string& output, size_t count);
/// Writes them, each complete or not at all. Errors: io, invalid_argument.
Status write_pictures(const std::vector<std::string>& paths,
                      const std::vector<compare::Frame>& pictures);

}  // namespace loadstone::runtime
