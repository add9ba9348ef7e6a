// The outputs of a component as one GGUF file under the family's original names.
#pragma once

#include "load/quantize_outputs.hpp"

namespace loadstone::load {

/// Turns the component's files into one, "FAMILY-TYPE.gguf": modules that one original tensor holds
/// are joined by rows, halves swapped where the family's rows stand the other way round, the head's
/// keys filled. Quantized tensors keep their type, the others their dtype (BF16, F16, F32).
/// Errors: unsupported (modules of one tensor that are missing, or differ in type or width).
Status make_gguf(const plan::Plan& plan, SavedComponent& component);

}  // namespace loadstone::load
