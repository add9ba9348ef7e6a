// Layers of integers in 32-bit words on the device, weights only: a few rows of x are multiplied as
// the words are read, more with the decoded weight.
#pragma once

#include "common/cuda/decoded_layer.hpp"
#include "common/cuda/packs.hpp"

namespace loadstone::common::cuda {

class PacksLayer {
 public:
  explicit PacksLayer(const int_packs::Matrix& w) : w_(w) {}

  uint64_t workspace_nbytes(uint64_t m) const { return decoded_nbytes(w_.n, w_.k, m); }
  /// y = x·Ŵᵀ + bias.
  void run(const ls_apply& call) const;

 private:
  int_packs::Matrix w_;
};

}  // namespace loadstone::common::cuda
