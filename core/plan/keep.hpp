// Layers that stay as the checkpoint has them.
#pragma once

#include "plan/plan.hpp"

namespace loadstone::plan {

/// Fills stored tensors with identities, or with casts where `dtype` asks plain floats for
/// another one (invalid: as stored). Parts of a fused layer are joined as LayerPlan describes.
Status keep_layer(const formats::Component& component, const graph::Layer& layer, DType dtype,
                  LayerPlan& out);

}  // namespace loadstone::plan
