// A plain checkpoint's tensors as a tool would have written them quantized: names, dtypes, shapes
// and the declaration, no data. Enough to plan.
#pragma once

#include <set>
#include <string>

#include "formats/checkpoint.hpp"

namespace loadstone::testing {

/// Rewrites the weights named in `modules` (component's checkpoint index, module name) as `tool`
/// ("modelopt": FP8 with static activations; "autoround": W4, groups of 32, GPTQ's packing;
/// "msmodelslim": W8A8_DYNAMIC; "compressed_tensors": int-quantized, a scale a row) does, and adds its declaration to their components. Values that a
/// plan reads, scales, are ones.
void serialize(formats::Checkpoint& checkpoint,
               const std::set<std::pair<uint32_t, std::string>>& modules, const std::string& tool);

}  // namespace loadstone::testing
