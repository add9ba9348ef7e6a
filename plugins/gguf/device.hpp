// GGUF layers on a GPU: weights stay in their blocks. A few rows of activations are multiplied as
// the blocks are read, more with the decoded weight; or rows are looked up.
#pragma once

#include "common/cuda/decoded_layer.hpp"
#include "common/cuda/ggml.hpp"
#include "gguf/segments.hpp"

namespace loadstone::gguf {

/// "gguf_q4_k_mma_cublaslt", "gguf_mixed_lookup".
std::string device_kernel_name(const sdk::Layer& layer, const Matrix& matrix);

/// Gguf::HostBound's calls on the device (gguf.cpp).
class BlocksBound {
 public:
  /// `made`: the type that float weights were quantized to, or null.
  BlocksBound(const ggml::TypeInfo* made, const sdk::Binding& binding);
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply&) const {}
  void apply(const ls_apply& call) const;

 private:
  cudaError_t decode(uint64_t begin, uint64_t count, void* out, uint32_t dtype,
                     cudaStream_t stream) const;
  void gather(const ls_apply& call) const;
  void few_rows(const ls_apply& call) const;

  uint64_t n_, k_;
  bool gathers_;
  int device_ = 0;
  std::vector<common::cuda::GgmlRun> runs_;
};

}  // namespace loadstone::gguf
