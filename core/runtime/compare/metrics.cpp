#include "runtime/compare/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace loadstone::compare {
namespace {

/// Exact integer sums over any number of frames. 2^64 / 255² samples fit: 2.8e14.
struct Sums {
  uint64_t count = 0;
  uint64_t square_error = 0, absolute_error = 0;
  uint64_t reference_square = 0, candidate_square = 0, product = 0;
  uint32_t max_abs = 0;

  void add(std::span<const uint8_t> reference, std::span<const uint8_t> candidate) {
    for (size_t i = 0; i < reference.size(); ++i) {
      const uint32_t r = reference[i], c = candidate[i];
      const uint32_t distance = r > c ? r - c : c - r;
      square_error += distance * distance;
      absolute_error += distance;
      reference_square += r * r;
      candidate_square += c * c;
      product += r * c;
      max_abs = std::max(max_abs, distance);
    }
    count += reference.size();
  }
};

double ratio_or_limits(double part, double whole) {
  if (whole > 0) return part / whole;
  return part > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

double cosine_of(const Sums& sums) {
  if (sums.reference_square == 0 || sums.candidate_square == 0) {
    return sums.reference_square == sums.candidate_square ? 1.0 : 0.0;
  }
  const double norms = std::sqrt(static_cast<double>(sums.reference_square)) *
                       std::sqrt(static_cast<double>(sums.candidate_square));
  return std::clamp(static_cast<double>(sums.product) / norms, -1.0, 1.0);
}

Metrics finish(const Sums& sums) {
  const auto n = static_cast<double>(sums.count);
  Metrics out;
  out.mse = static_cast<double>(sums.square_error) / n;
  out.rmse = std::sqrt(out.mse);
  out.mae = static_cast<double>(sums.absolute_error) / n;
  out.max_abs = sums.max_abs;
  out.l2 = std::sqrt(static_cast<double>(sums.square_error));
  out.relative_l2 = ratio_or_limits(out.l2, std::sqrt(static_cast<double>(sums.reference_square)));
  out.cosine_similarity = cosine_of(sums);
  out.psnr_db = sums.square_error == 0 ? std::numeric_limits<double>::infinity()
                                       : 20.0 * std::log10(255.0) - 10.0 * std::log10(out.mse);
  return out;
}

std::string size_text(const Frame& frame) {
  return std::to_string(frame.width) + "x" + std::to_string(frame.height);
}

Error mismatch(std::string where, const std::string& found, const std::string& expected) {
  return Error{Code::invalid_argument,
               "pictures can't be compared",
               std::move(where),
               "found " + found + ", expected " + expected,
               "",
               {}};
}

Status check_pairs(std::span<const Frame> reference, std::span<const Frame> candidate) {
  if (reference.size() != candidate.size()) {
    return mismatch("candidate", std::to_string(candidate.size()) + " pictures",
                    std::to_string(reference.size()) + " as in the reference");
  }
  if (reference.empty()) return mismatch("reference", "no pictures", "at least one");
  for (size_t i = 0; i < reference.size(); ++i) {
    const Frame& r = reference[i];
    const Frame& c = candidate[i];
    const std::string where = "picture " + std::to_string(i);
    if (r.height != c.height || r.width != c.width || r.rgb.size() != c.rgb.size()) {
      return mismatch(where, size_text(c), size_text(r) + " as in the reference");
    }
    if (r.height != reference[0].height || r.width != reference[0].width) {
      return mismatch(where, size_text(r), size_text(reference[0]) + " as picture 0");
    }
  }
  return {};
}

}  // namespace

Result<Metrics> metrics_of(std::span<const uint8_t> reference, std::span<const uint8_t> candidate) {
  if (reference.size() != candidate.size()) {
    return mismatch("candidate", std::to_string(candidate.size()) + " samples",
                    std::to_string(reference.size()) + " as in the reference");
  }
  if (reference.empty()) return mismatch("reference", "no samples", "at least one");
  Sums sums;
  sums.add(reference, candidate);
  return finish(sums);
}

Result<FrameMetrics> frame_metrics(std::span<const Frame> reference,
                                   std::span<const Frame> candidate) {
  LS_CHECK(check_pairs(reference, candidate));
  FrameMetrics out;
  out.count = static_cast<uint32_t>(reference.size());
  out.mid_index = out.count / 2;
  LS_TRY(out.first, metrics_of(reference[0].rgb, candidate[0].rgb));
  LS_TRY(out.mid, metrics_of(reference[out.mid_index].rgb, candidate[out.mid_index].rgb));
  Sums sums;
  for (size_t i = 0; i < reference.size(); ++i) sums.add(reference[i].rgb, candidate[i].rgb);
  out.all = finish(sums);
  return out;
}

}  // namespace loadstone::compare
