// From a method's answer to a layer plan.
#pragma once

#include "plan/ask.hpp"

namespace loadstone::plan {

/// Fills the stored tensors, sources, identities and sizes of `out` from a quantize or decode
/// answer, which ask_plan has checked against the layer. Biases that the host adds and the method
/// doesn't name become stored tensors of the host's own, after the method's; `dtype` as in
/// keep_layer.
Status adopt_answer(const formats::Component& component, const graph::Layer& layer,
                    const Asked& asked, DType dtype, LayerPlan& out);

}  // namespace loadstone::plan
