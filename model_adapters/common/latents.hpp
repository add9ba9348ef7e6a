// Latents of flow-matching pipelines: packing into tokens, guidance, an Euler step, pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/causal_vae.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::networks {

/// [B, C, h, w] → [B, h/2·w/2, 4C]: a token is a 2x2 patch in row-major order, inside it
/// channel-major, then row, then column.
at::Tensor pack_latents(const at::Tensor& latents);
/// The inverse.
at::Tensor unpack_latents(const at::Tensor& packed, int64_t height, int64_t width);

/// c = u + scale·(v - u), rescaled to v's norm over the channels of each token: c·(‖v‖/‖c‖).
at::Tensor guide(const at::Tensor& conditional, const at::Tensor& unconditional, double scale);

/// latents += length·velocity. All float32; `length` [], the next sigma less this one, on latents'
/// device.
void euler_step(at::Tensor& latents, const at::Tensor& velocity, const at::Tensor& length);

/// z/(1/deviation) + mean: in this form, as the reference computes it.
at::Tensor denormalize(const at::Tensor& latents, const LatentStatistics& statistics);
/// (z - mean)/deviation.
at::Tensor normalize(const at::Tensor& latents, const LatentStatistics& statistics);

/// [B, 3, H, W] in -1..1 → 8-bit frames: x·0.5 + 0.5 clamped to 0..1, times 255, rounded half to
/// even.
std::vector<compare::Frame> to_frames(const at::Tensor& pictures);
/// pixel/255·2 - 1 as [1, 3, H, W] float32.
at::Tensor from_frame(const compare::Frame& frame);

}  // namespace loadstone::networks
