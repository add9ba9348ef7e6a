// Planning after routing: what `make_plan` does with decided layers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plan/plan.hpp"
#include "plan/routing.hpp"

namespace loadstone::plan {

/// Asks the methods, lays out, schedules, predicts. `routed` is parallel to graph.layers.
/// Errors: all layers' problems at once.
Result<Plan> plan_routed(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
                         const config::QuantConfig& quantization, std::vector<Routed> routed,
                         plugin::Registry& registry, const Target& target,
                         const LoadOptions& options);

}  // namespace loadstone::plan
