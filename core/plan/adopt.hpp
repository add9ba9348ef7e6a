// From a method's answer, checked, to a layer plan.
#pragma once

#include "plan/ask.hpp"

namespace loadstone::plan {

/// Fills the stored tensors, sources, identities, sizes of `out` from a quantize or decode answer.
/// What a plugin says is input: ranges against tensors, identities against both sides (each
/// stored tensor is wholly produced or covered exactly once), every tensor of the layer read,
/// asked for or declared unused.
/// Errors: internal (the method's answer breaks the interface), invalid_checkpoint (a tensor that
/// the method neither reads nor declares unused).
Status adopt_answer(const formats::Component& component, const graph::Layer& layer,
                    const Asked& asked, LayerPlan& out);

}  // namespace loadstone::plan
