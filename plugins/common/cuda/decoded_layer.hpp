// Layers whose weights are decoded to floats before a product on the device: weight-only methods,
// and the MX formats, whose values are exact in bf16. The scratch is one layer at two bytes a
// value; wider activations take it in panels of rows.
#pragma once

#include <functional>

#include "common/cuda/decode.hpp"
#include "common/cuda/groups_product.hpp"
#include "common/cuda/multiply.hpp"

namespace loadstone::common::cuda {

/// Rows [begin, begin+count) of W to `out`, dense, of `dtype`.
using DecodeRows = std::function<cudaError_t(uint64_t begin, uint64_t count, void* out,
                                             uint32_t dtype, cudaStream_t stream)>;

/// Calls `multiply` with panels of W (n, k), decoded to x's dtype into scratch cut from `cutter`.
void for_panels(uint64_t n, uint64_t k, const DecodeRows& decode, const ls_apply& call,
                Cutter& cutter,
                const std::function<void(uint64_t row, uint64_t count, const void* w)>& multiply);

/// y = x·Ŵᵀ + bias with W (n, k) decoded to x's dtype, and the workspace that takes.
void run_decoded(uint64_t n, uint64_t k, const DecodeRows& decode, const ls_apply& call);
uint64_t decoded_nbytes(uint64_t n, uint64_t k, uint64_t m);

/// Columns [row, row+count) of call.y from dense bf16 values at call.x and `w`; scales and group
/// are the caller's to fill.
GroupsProduct groups_of(const ls_apply& call, uint64_t row, uint64_t count, uint64_t k,
                        const void* w);

class DecodedLayer {
 public:
  explicit DecodedLayer(const CodedMatrix& w) : w_(w) {}

  uint64_t workspace_nbytes(uint64_t m) const { return decoded_nbytes(w_.n, w_.k, m); }
  /// y = x·Ŵᵀ + bias with W in x's dtype.
  void run(const ls_apply& call) const;
  /// The same of dual scales: x is bf16 values whose scales lie at `x_scale` (m, k/group), those of
  /// decoded values at `w_scale` (n, k/group).
  void run_grouped(const ls_apply& call, uint64_t group, const float* x_scale,
                   const float* w_scale) const;
  /// y[i] = Ŵ[x[i]]: call.x is row numbers (I64).
  void gather(const ls_apply& call) const;

 private:
  CodedMatrix w_;
};

}  // namespace loadstone::common::cuda
