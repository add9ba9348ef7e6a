// Queries, keys and values of attention heads: per-head norm and rotary positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace loadstone::networks {

/// Rotation of each position: float32 cos and sin [positions, head_dim/2].
struct RotaryTable {
  at::Tensor cosine, sine;
};

/// Angles position·theta^(-2i/dim) for the dims of one axis, i < dim/2, in float32.
at::Tensor rotary_angles(const std::vector<int64_t>& positions, int64_t dim, double theta);
/// Computed on the CPU, kept on `device`.
RotaryTable rotary_table(const at::Tensor& angles, at::Device device = at::kCPU);

enum class RotaryPairs { adjacent, halves };  // which elements of a head are rotated together

/// What happens to a head before it is rotated: RMS norm with `weight` [head_dim], none if
/// undefined.
struct HeadNorm {
  at::Tensor weight;
  double eps = 0;
};

struct HeadCounts {
  int64_t q = 0, kv = 0, dim = 0;
  int64_t width() const { return (q + 2 * kv) * dim; }
};

/// Reads projections [batch·T, (q + 2·kv)·dim] (q heads, then k, then v), adds `bias` (on a GPU,
/// where it is defined), norms and rotates q and k by the table's T positions, and writes them to
/// rows [offset, offset + T) of `out` [batch, S, (q + 2·kv)·dim]. On a GPU the projections may be
/// those rows of `out` themselves.
void place_heads(const at::Tensor& projections, const HeadCounts& heads, const HeadNorm& q_norm,
                 const HeadNorm& k_norm, const RotaryTable& table, RotaryPairs pairs,
                 at::Tensor& out, int64_t offset, const at::Tensor& bias = {});

/// Heads [first, first + count) of such a matrix as [batch, count, S, dim], a view.
at::Tensor view_heads(const at::Tensor& placed, const HeadCounts& heads, int64_t first,
                      int64_t count);

}  // namespace loadstone::networks
