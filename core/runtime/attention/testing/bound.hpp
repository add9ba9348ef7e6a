// README.md's formulas in float64, written apart from the code that runs them, and the bound on
// what an implementation may differ: for tests on the host and on a GPU.
#pragma once

#include <vector>

#include "runtime/attention.hpp"

namespace loadstone::runtime::fp8_attention {

/// How a unit sums products of e4m3 values: |error| of a sum ≤ each · Σ|products|.
struct Sums {
  double each;
};
inline constexpr Sums kFloatSums{0x1p-16};  // float32, up to 256 terms in any order
inline constexpr Sums kHopperSums{1.1e-3};  // its e4m3 units (numeric definitions, section 12)

struct Distance {
  double of_bound = 0;     // largest |error| / bound over all outputs; NaN in place counts as 0
  double relative_l2 = 0;  // of the whole output
};

/// `out` [B, Lq, H·D] against the formulas.
Distance distance_to_formulas(const AttentionCall& call, const at::Tensor& out, Sums sums);

/// x·R by the matrix, dim = x.size().
std::vector<double> rotated_by_matrix(const std::vector<double>& x);

}  // namespace loadstone::runtime::fp8_attention
