// Elementwise passes of a transformer's block.
#pragma once

#include "runtime/cuda/launch.hpp"

namespace loadstone::runtime::cuda {

/// x = gelu(x + bias), the tanh form, for each row. All of one type; strides in elements; bias
/// [width], dense, or null. Rows from the last to the first: a product has just written the last
/// ones, and what reads x next begins with the first, so both find some of it in the cache.
struct Gelu {
  Float type;
  void* x;
  const void* bias;
  int64_t rows, width, stride;
};
const char* gelu_tanh(const Gelu& call, const Queue& queue);

/// x += gate·(y + bias) for each row. All of one type; strides in elements; gate and bias [width],
/// dense; bias may be null.
struct AddGated {
  Float type;
  void* x;
  const void *gate, *y, *bias;
  int64_t rows, width, x_stride, y_stride;
};
const char* add_gated(const AddGated& call, const Queue& queue);

}  // namespace loadstone::runtime::cuda
