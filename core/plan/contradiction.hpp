// Several declarations of one component: the first counts, and what others say otherwise is told.
#pragma once

#include <string>

#include "plan/routing_declared.hpp"

namespace loadstone::plan {

/// What `declaration`, read by `claim` (null: by nobody), says otherwise than the one that counts;
/// "" when it repeats it. A key that only one of them has is no contradiction.
std::string contradiction(const formats::Declaration& declaration, const plugin::Claim* claim,
                          const Declared& first, plugin::Registry& registry);

}  // namespace loadstone::plan
