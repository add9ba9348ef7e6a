// The comparison as one HTML file that needs nothing else: pictures, the difference as a heat map,
// metrics against both thresholds, errors per layer, time and memory.
#pragma once

#include <span>
#include <string>

#include "base/result.hpp"
#include "runtime/compare/result.hpp"

namespace loadstone::compare {

/// `reference` and `candidate` are the frames that the metrics were made of. Up to 8 pairs are
/// shown; of more, the first, the middle and the last.
Result<std::string> html_report(const Comparison& comparison, std::span<const Frame> reference,
                                std::span<const Frame> candidate);

}  // namespace loadstone::compare
