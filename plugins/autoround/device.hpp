// Packed integers on a GPU: a few rows of activations are multiplied as the words are read, more
// with the decoded weight.
#pragma once

#include <loadstone/plugin.hpp>

#include "autoround/stored.hpp"
#include "common/cuda/packs_layer.hpp"

namespace loadstone::autoround {

/// "gptq_w4_mma_cublaslt": a few rows by a kernel of their own, more by cublasLt.
std::string device_kernel_name(const Form& form);
/// What a plan says beside the kernel's name.
std::string device_reason(const Form& form, bool shuffled);

/// Integers::Bound's calls on the device (integers.hpp).
class PacksBound {
 public:
  PacksBound(const Config& config, const sdk::Binding& binding);
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply&) const {}
  void apply(const ls_apply& call) const;

 private:
  int device_;
  common::cuda::PacksLayer layer_;
};

}  // namespace loadstone::autoround
