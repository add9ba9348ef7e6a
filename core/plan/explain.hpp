// A plan as text for people.
#pragma once

#include <string>

#include "plan/plan.hpp"

namespace loadstone::plan {

/// Components with their layers, bytes before and after, methods; peaks; notes.
std::string summary_text(const Plan& plan);
/// One line a layer: path, role, method or keep, bytes before and after, reason.
std::string layers_text(const Plan& plan);
/// The full story of one layer: rule, what it overrode, reason, parts, sources, stored tensors,
/// kernel, memory. `name`: a runtime path, "component:path", or a part's module path.
/// Errors: not_found with the nearest name.
Result<std::string> why_text(const Plan& plan, const std::string& name);

}  // namespace loadstone::plan
