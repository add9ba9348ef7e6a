// Plans as text, for cases.
#pragma once

#include <string>

#include "plan/plan.hpp"

namespace loadstone::testing {

/// One view of a plan: "layers", "summary", "components", "json", "reads", "memory", "notes",
/// "rules", "attention" (its line and JSON), "layer PATH" (its JSON), "shape PATH" (of the graph's
/// layer), "why NAME", "bytes TENSOR" (of the first component, as a load reads it).
std::string view(const plan::Plan& plan, const std::string& what);

}  // namespace loadstone::testing
