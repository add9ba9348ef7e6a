// RMS norm of q and k heads, their rotation, and their place, one pass over memory.
#pragma once

#include "runtime/cuda/launch.hpp"

namespace loadstone::runtime::cuda {

/// Row b·positions + t of `from` holds q heads of `dim` elements, then kv k heads, then kv v heads.
/// It goes to row t of `to`'s batch b, after `bias` (as long as a row, or null) is added: q and k
/// divided by sqrt(mean square + eps) and multiplied by
/// their weight [dim] (where it isn't null), then adjacent pairs (a, b) turned to
/// (a·cos - b·sin, a·sin + b·cos) by row t of the tables [positions, dim/2]; v as it is, or not
/// written at all without `with_values`. `to` may be the rows of `from`. Strides in elements; dim
/// is even and heads_fit(dim).
struct Heads {
  Float type;
  const void *from, *bias, *q_weight, *k_weight;
  const float *cosine, *sine;
  void* to;
  int64_t batch, positions, from_stride, to_stride, to_batch_stride;
  int32_t q, kv, dim;
  float q_eps, k_eps;
  bool with_values;
};
const char* place_heads(const Heads& call, const Queue& queue);
/// Whether a head is short enough for the lanes that share it, however it lies.
bool heads_fit(int64_t dim);

}  // namespace loadstone::runtime::cuda
