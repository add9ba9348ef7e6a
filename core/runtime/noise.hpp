// Noise as the reference pipelines draw it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace loadstone::runtime {

/// Standard normal float32 of this shape, in one draw from LibTorch's CPU generator (mt19937).
at::Tensor draw_noise(at::IntArrayRef shape, uint64_t seed);

}  // namespace loadstone::runtime
