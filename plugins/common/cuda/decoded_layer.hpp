// Layers whose weights are decoded to floats before a product on the device: weight-only methods,
// and the MX formats, whose values are exact in bf16. The scratch is one layer at two bytes a
// value; wider activations take it in panels of rows.
#pragma once

#include "common/cuda/decode.hpp"
#include "common/cuda/multiply.hpp"

namespace loadstone::common::cuda {

class DecodedLayer {
 public:
  explicit DecodedLayer(const CodedMatrix& w) : w_(w) {}

  uint64_t workspace_nbytes(uint64_t m) const;
  /// y = x·Ŵᵀ + bias with W in x's dtype.
  void run(const ls_apply& call) const;
  /// y[i] = Ŵ[x[i]]: call.x is row numbers (I64).
  void gather(const ls_apply& call) const;

 private:
  uint64_t scratch_nbytes() const;

  CodedMatrix w_;
};

}  // namespace loadstone::common::cuda
