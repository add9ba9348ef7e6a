// Similarity of pictures: the metrics of the output comparison. Torch-free.
//
// r = reference, c = candidate, d = r - c, over all n samples (uint8, 0..255):
//   mse = mean(d²)   rmse = √mse   mae = mean|d|   max_abs = max|d|   l2 = ‖d‖₂
//   relative_l2 = l2/‖r‖₂ (0 if both are 0, inf if only ‖r‖ is)
//   cosine = r·c/(‖r‖‖c‖) clamped to [-1, 1] (1 if both norms are 0, 0 if one is)
//   psnr_db = 20·log10(255) - 10·log10(mse), inf if mse = 0
// All sums of uint8 products are integers below 2^53 and kept exactly, so the order of summation
// can't change a result.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace loadstone::compare {

/// One 8-bit RGB picture or video frame, row-major [height, width, 3].
struct Frame {
  uint32_t height = 0;
  uint32_t width = 0;
  std::vector<uint8_t> rgb;
};

struct Metrics {
  double cosine_similarity = 0;
  double mae = 0;
  double mse = 0;
  double rmse = 0;
  double max_abs = 0;
  double l2 = 0;
  double relative_l2 = 0;
  double psnr_db = 0;
};

/// Errors: invalid_argument when the counts differ or are 0.
Result<Metrics> metrics_of(std::span<const uint8_t> reference, std::span<const uint8_t> candidate);

/// The first frame, frame F/2, and all frames together (over all samples, not a mean of frames).
struct FrameMetrics {
  uint32_t count = 0;
  Metrics first;
  uint32_t mid_index = 0;
  Metrics mid;
  Metrics all;
};

/// Errors: invalid_argument when counts or sizes differ, or there are no frames.
Result<FrameMetrics> frame_metrics(std::span<const Frame> reference,
                                   std::span<const Frame> candidate);

}  // namespace loadstone::compare
