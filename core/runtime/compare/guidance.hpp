// How to read the metrics: advice, the thresholds behind it, and the gate built on them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/compare/metrics.hpp"

namespace loadstone::compare {

/// smoke: not broken. strict: as good as unquantized for most eyes.
enum class Gate : uint8_t { smoke, strict };
std::string_view to_string(Gate gate);

/// One line of the threshold table. Time and memory ratios (candidate / reference) are advice
/// only; the four picture metrics make the gate.
struct Threshold {
  std::string_view metric;
  bool at_least;  // false: at most
  double smoke;
  double strict;
  std::optional<double> best;  // the strictest value in use, or a target
  bool gated;
};
std::span<const Threshold> thresholds();

/// What a metric means, by its key in the result.
struct Description {
  std::string_view metric;
  std::string_view text;
};
std::span<const Description> descriptions();
/// What the guidance is about.
std::string_view guidance_scope();
/// "smoke: >= 20, strict: >= 25, strictest in use: >= 30"
std::string threshold_text(const Threshold& threshold);

/// The value of a metric by its key; nullopt for keys that aren't picture metrics.
std::optional<double> metric_value(const Metrics& metrics, std::string_view metric);
bool passes(const Threshold& threshold, Gate gate, double value);
/// The gated metrics that miss their limit, as "psnr_db 18.2, limit 20 (smoke)". Empty: passed.
std::vector<std::string> gate_failures(const Metrics& metrics, Gate gate);

}  // namespace loadstone::compare
