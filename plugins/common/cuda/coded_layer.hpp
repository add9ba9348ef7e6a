// Layers whose weights and activations are 8-bit codes under scales, on the device: y = x̂·Ŵᵀ as
// common/product/coded_product.hpp and int8_product.hpp define it. On tensor cores by cublasLt, or
// on plain units where a shape doesn't fit them: said by `unit` before anything runs.
#pragma once

#include "common/cuda/decode.hpp"
#include "common/cuda/multiply.hpp"

namespace loadstone::common::cuda {

/// Rows [begin, begin+count) of W with the activation that they read.
struct CodedSegment {
  uint64_t begin = 0, count = 0;
  const uint8_t* x = nullptr;       // (m, k) codes
  const float* x_scales = nullptr;  // m, or groups · m: of row i, group g at [g·m + i]
};

class CodedLayer {
 public:
  /// `group`: columns that share scales of x and W (W's blocks are group × group), or 0.
  CodedLayer(const CodedMatrix& w, uint64_t group);

  /// "cublaslt" or "simt"; "int8_tiles" and "fp8_tiles" on sm 90, whose few rows are
  /// cublasLt's. fp8 products need sm 89.
  const char* unit(uint32_t sm = 0) const;
  uint64_t groups() const { return group_ == 0 ? 1 : (w_.k + group_ - 1) / group_; }
  uint64_t workspace_nbytes(uint64_t m) const;
  /// `segments` together are all rows.
  void run(const ls_apply& call, const CodedSegment* segments, uint64_t count) const;

 private:
  bool on_tensor_cores() const;
  bool blocks_in_order() const;
  uint32_t w_dtype() const;
  void run_simt(const ls_apply& call, const CodedSegment& segment, const float* w_scales) const;

  CodedMatrix w_;
  uint64_t group_;
};

}  // namespace loadstone::common::cuda
