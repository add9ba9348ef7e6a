// What a family says of a layer that neither configuration nor checkpoint decides.
#pragma once

#include <string>

#include "graph/graph.hpp"

namespace loadstone::plan {

/// The rule's name in plans: "default:quantize", or "default:" and why it is kept.
std::string default_name(const graph::Layer& layer);
/// The same in words.
std::string default_reason(const graph::Layer& layer);

}  // namespace loadstone::plan
