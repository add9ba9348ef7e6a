// A configuration judged by the methods themselves: what no schema can say (fields that contradict
// each other). Needs no model.
#pragma once

#include "config/quant_config.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

/// Configures every method that a configuration names once.
/// Errors: the methods' own, all at once, each with its place.
Status configure_all(const config::QuantConfig& quantization, plugin::Registry& registry);

}  // namespace loadstone::plan
