// Whether a plan fits its GPUs as they are now.
#pragma once

#include "base/result.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// Compares each GPU's predicted peak (stored tensors and staging) with what is free there now;
/// what drawing takes later isn't counted. Kinds of GPU ("cuda:sm80") are passed over. Errors:
/// resource with the components by size, and as hint the smallest one whose place on the CPU would
/// do; unsupported (no such GPU), io.
Status check_fits(const plan::Plan& plan);

}  // namespace loadstone::load
