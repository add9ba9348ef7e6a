// `rules:`, ordered statements over layers.
#pragma once

#include <vector>

#include "config/problems.hpp"
#include "config/quant_config.hpp"

namespace loadstone::config {

std::vector<Rule> read_rules(const Node& list, const Schemas& schemas, Problems& problems);

}  // namespace loadstone::config
