// Sinusoidal features of a diffusion timestep.
#pragma once

#include <ATen/core/Tensor.h>

namespace loadstone::networks {

/// Features [n, width] = [cos a, sin a] of timesteps t [n] (already divided by 1000), with
/// f_i = exp(-ln(10000)·i/(width/2)) and a = (t·f_i)·1000. In bf16 t and f are rounded to bf16
/// before they are multiplied in float32. Result of t's dtype.
at::Tensor timestep_features(const at::Tensor& t, int64_t width);

}  // namespace loadstone::networks
