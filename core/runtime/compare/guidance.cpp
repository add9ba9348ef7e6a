#include "runtime/compare/guidance.hpp"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace loadstone::compare {
namespace {

constexpr std::array<Threshold, 6> kThresholds{{
    {"psnr_db", true, 20.0, 25.0, 30.0, true},
    {"mae", false, 12.0, 6.0, 3.0, true},
    {"cosine_similarity", true, 0.98, 0.995, std::nullopt, true},
    {"relative_l2", false, 0.20, 0.08, std::nullopt, true},
    {"generation_time_ratio", false, 1.10, 1.10, std::nullopt, false},
    {"peak_memory_ratio", false, 1.00, 1.00, 0.95, false},
}};

constexpr std::array<Description, 10> kDescriptions{{
    {"cosine_similarity",
     "Angle between the two pictures as vectors: 1 is the same direction. Blind to a common "
     "brightness factor."},
    {"mae", "Mean absolute difference of a sample, in steps of 255."},
    {"mse", "Mean squared difference of a sample; large errors weigh more than in mae."},
    {"rmse", "Square root of mse, in steps of 255."},
    {"max_abs", "Largest difference of any one sample, in steps of 255."},
    {"l2", "Euclidean length of the difference over all samples; grows with the picture."},
    {"relative_l2", "l2 as a share of the reference's own length; independent of the size."},
    {"psnr_db",
     "Peak signal-to-noise ratio in decibels, 20*log10(255) - 10*log10(mse): higher is nearer, "
     "\"inf\" is identical."},
    {"generation_time_ratio", "Candidate's average time of a run over the reference's."},
    {"peak_memory_ratio", "Candidate's peak memory over the reference's."},
}};

}  // namespace

std::string_view to_string(Gate gate) { return gate == Gate::smoke ? "smoke" : "strict"; }

std::span<const Threshold> thresholds() { return kThresholds; }

std::span<const Description> descriptions() { return kDescriptions; }

std::string_view guidance_scope() {
  return "Differences of two runs with the same prompt, seed and settings. They say how far the "
         "candidate's output moved from the reference's, not which one looks better; image0 is "
         "the first picture or frame, mid the middle one, all every sample together.";
}

std::string threshold_text(const Threshold& threshold) {
  const char* sign = threshold.at_least ? ">=" : "<=";
  std::string text = threshold.smoke == threshold.strict
                         ? fmt::format("{} {}", sign, threshold.smoke)
                         : fmt::format("smoke: {} {}, strict: {} {}", sign, threshold.smoke, sign,
                                       threshold.strict);
  if (threshold.best) text += fmt::format(", best: {} {}", sign, *threshold.best);
  return text;
}

std::optional<double> metric_value(const Metrics& metrics, std::string_view metric) {
  const std::array<std::pair<std::string_view, double>, 8> values{{
      {"cosine_similarity", metrics.cosine_similarity},
      {"mae", metrics.mae},
      {"mse", metrics.mse},
      {"rmse", metrics.rmse},
      {"max_abs", metrics.max_abs},
      {"l2", metrics.l2},
      {"relative_l2", metrics.relative_l2},
      {"psnr_db", metrics.psnr_db},
  }};
  for (const auto& [name, value] : values) {
    if (name == metric) return value;
  }
  return std::nullopt;
}

bool passes(const Threshold& threshold, Gate gate, double value) {
  const double limit = gate == Gate::smoke ? threshold.smoke : threshold.strict;
  return threshold.at_least ? value >= limit : value <= limit;
}

std::vector<std::string> gate_failures(const Metrics& metrics, Gate gate) {
  std::vector<std::string> failures;
  for (const Threshold& threshold : kThresholds) {
    if (!threshold.gated) continue;
    const double value = metric_value(metrics, threshold.metric).value();
    if (passes(threshold, gate, value)) continue;
    const double limit = gate == Gate::smoke ? threshold.smoke : threshold.strict;
    failures.push_back(fmt::format("{} is {:.6g}, {} asks for {} {}", threshold.metric, value,
                                   to_string(gate), threshold.at_least ? "at least" : "at most",
                                   limit));
  }
  return failures;
}

}  // namespace loadstone::compare
