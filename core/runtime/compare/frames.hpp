// Pictures and frames made elsewhere: a folder of PNG files.
#pragma once

#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::compare {

struct FrameFolder {
  std::vector<std::string> names;  // file names, numbers in their order (image_2 before image_10)
  std::vector<Frame> frames;       // parallel to names
  std::vector<std::string> notes;  // what else lay there and was not read
};

/// Reads every *.png of a folder. Errors: not_found, invalid_argument (no PNG, damaged), io.
Result<FrameFolder> read_frames(FileSystem& files, const std::string& folder);

/// Orders text with runs of digits as numbers.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace loadstone::compare
