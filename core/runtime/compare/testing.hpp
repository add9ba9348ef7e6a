// What the comparison's tests share: small frames and a folder to put them in.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/testing/temp_folder.hpp"
#include "runtime/compare/metrics.hpp"
#include "runtime/compare/png.hpp"

namespace loadstone::compare::testing {

/// A frame whose samples all are `value`.
inline Frame flat(uint32_t height, uint32_t width, uint8_t value) {
  return {height, width, std::vector<uint8_t>(size_t{height} * width * 3, value)};
}

/// A frame of changing samples.
inline Frame pattern(uint32_t height, uint32_t width, uint32_t seed) {
  Frame frame = flat(height, width, 0);
  for (uint8_t& sample : frame.rgb) {
    seed = seed * 1664525u + 1013904223u;
    sample = static_cast<uint8_t>(seed >> 24);
  }
  return frame;
}

/// Of pictures too.
struct Folder : loadstone::testing::TempFolder {
  using TempFolder::write;
  void write(const std::string& name, const Frame& frame) const {
    write(name, encode_png(frame).value());
  }
};

}  // namespace loadstone::compare::testing
