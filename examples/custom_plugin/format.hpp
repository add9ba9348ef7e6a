// The format of hadamard4: what a row of a matrix becomes. README.md gives the formulas.
#pragma once

#include <cmath>
#include <loadstone/plugin.hpp>

namespace hadamard4 {

namespace sdk = loadstone::sdk;

/// Multiplies each block of `size` values (a power of two that divides their number) by the
/// Sylvester-Hadamard matrix over √size, which is its own inverse.
inline void rotate(std::span<float> values, uint64_t size) {
  for (uint64_t half = 1; half < size; half *= 2) {
    for (uint64_t block = 0; block < values.size(); block += 2 * half) {
      for (uint64_t i = block; i < block + half; ++i) {
        const float a = values[i], b = values[i + half];
        values[i] = a + b;
        values[i + half] = a - b;
      }
    }
  }
  const float norm = 1.0f / std::sqrt(static_cast<float>(size));
  for (float& value : values) value *= norm;
}

struct Config {
  uint64_t group_size = 32, rotation = 128;
};

/// A row of `in` columns: in/2 bytes of codes, a bf16 scale for each group.
struct Form {
  Form(const Config& config, uint64_t columns)
      : in(columns),
        group(config.group_size),
        groups((in + group - 1) / group),
        row_nbytes(in / 2),
        rotation(std::min(config.rotation, in & (~in + 1))) {}  // a power of two that divides `in`

  uint64_t in, group, groups, row_nbytes, rotation;

  /// A rotated row to codes and scales.
  void quantize(std::span<const float> row, uint8_t* codes, uint16_t* scales) const {
    std::fill_n(codes, row_nbytes, uint8_t{0});
    for (uint64_t g = 0; g < groups; ++g) {
      const uint64_t end = std::min(in, (g + 1) * group);
      float amax = 0;
      for (uint64_t c = g * group; c < end; ++c) amax = std::max(amax, std::fabs(row[c]));
      // Below the smallest normal number a scale would divide badly: such a group is all zeros.
      scales[g] = sdk::float_to_bf16(amax / 7.0f < 0x1p-126f ? 1.0f : amax / 7.0f);
      const float scale = sdk::bf16_to_float(scales[g]);
      for (uint64_t c = g * group; c < end; ++c) {
        const auto q = static_cast<int>(std::clamp(std::nearbyint(row[c] / scale), -7.0f, 7.0f));
        codes[c / 2] |= static_cast<uint8_t>((q + 8) << (c % 2 * 4));
      }
    }
  }

  /// Codes of a row to its rotated values.
  void unpack(const uint8_t* codes, const uint16_t* scales, float* out) const {
    for (uint64_t c = 0; c < in; ++c) {
      const int q = (codes[c / 2] >> (c % 2 * 4) & 15) - 8;
      out[c] = static_cast<float>(q) * sdk::bf16_to_float(scales[c / group]);
    }
  }
};

}  // namespace hadamard4
