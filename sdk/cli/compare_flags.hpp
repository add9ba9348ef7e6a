// The flags of compare, judged before anything is opened: what contradicts itself, what has no
// effect here (a note), what can't be done yet (refused by name).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "options.hpp"
#include "runtime/compare/run.hpp"

namespace loadstone::cli {

struct CompareReview {
  compare::Request request;
  std::optional<compare::Gate> gate;
  std::vector<std::string> notes;
};

/// Errors: invalid_argument, invalid_config (a JSON flag), unsupported.
Result<CompareReview> review_flags(const CompareOptions& options);

}  // namespace loadstone::cli
