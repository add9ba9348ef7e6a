// LayerNorm without weights and its modulation, one pass over memory; after a gated sum, if asked.
#pragma once

#include "runtime/cuda/launch.hpp"

namespace loadstone::runtime::cuda {

inline constexpr int64_t kWidestNorm = 16384;

/// y = ((x - mean)/sqrt(var + eps))·(1 + scale) + shift for each row. All of one type; strides in
/// elements; scale and shift [width], dense. y may be x. width: 1 to kWidestNorm.
struct LayerNorm {
  Float type;
  const void *x, *scale, *shift;
  void* y;
  int64_t rows, width, x_stride, y_stride;
  float eps;
};
const char* layer_norm(const LayerNorm& call, const Queue& queue);

/// First x += gate·(more + bias), as AddGated (elementwise.hpp) has it, then norm of that sum
/// before it is rounded. norm.y isn't x.
struct GatedNorm {
  LayerNorm norm;
  void* x;  // norm.x, to write
  const void *gate, *more, *bias;
  int64_t more_stride;
};
const char* gated_norm(const GatedNorm& call, const Queue& queue);

}  // namespace loadstone::runtime::cuda
