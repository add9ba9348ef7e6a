// Layers that stay as the checkpoint has them.
#pragma once

#include "plan/plan.hpp"

namespace loadstone::plan {

/// Fills stored tensors with identities, or with casts where `dtype` asks plain floats for
/// another one (invalid: as stored). Parts of a fused layer are joined as LayerPlan describes.
/// Errors: invalid_checkpoint (a tensor without a size).
Status keep_layer(const formats::Component& component, const graph::Layer& layer, DType dtype,
                  LayerPlan& out);

/// The same for some of the layer's tensors (indices into layer.tensors).
Status keep_tensors(const formats::Component& component, const graph::Layer& layer,
                    const std::vector<uint32_t>& which, DType dtype, LayerPlan& out);

/// What makes a layer's values codes, which nobody may take for numbers: `"weight" as I8 beside
/// "weight_scale"`; "" for any other layer.
std::string codes_beside_a_scale(const formats::Component& component, const graph::Layer& layer);

}  // namespace loadstone::plan
