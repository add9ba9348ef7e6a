// One product on the device by cublasLt: outputs in one pass where it takes scales and bias, else
// float32 or int32 sums of a few rows at a time (they stay in the L2 cache) and a finishing pass;
// int8 and e4m3 codes on Hopper by a kernel of our own (code_tiles.hpp).
#pragma once

#include <loadstone/plugin.hpp>

#include "common/cuda/launch.hpp"
#include "common/cuda/lt.hpp"

namespace loadstone::common::cuda {

/// x (m, k), rows x_ld elements apart, and W (n, k) dense; dtypes and scales as LtShape has them
/// (I8 and BF16: scales a row, applied while finishing).
struct Operands {
  uint32_t x_dtype = 0, w_dtype = 0;
  Scaling scaling = Scaling::none;
  const void* x = nullptr;
  uint64_t x_ld = 0;
  const void* w = nullptr;
  const float *x_scale = nullptr, *w_scale = nullptr;
  uint64_t n = 0, k = 0;
  const int32_t* constants = nullptr;  // I8: added to each output's sum
};

/// Buffers of one call.
struct Room {
  void* lt = nullptr;
  void* sums = nullptr;

  static constexpr uint64_t kSumsNbytes = 32u << 20;
  /// Takes both for a product of at most n columns.
  static Room take(Cutter& cutter, uint64_t m, uint64_t n);
};

/// Columns [column, column+n) of call.y = product (+ call.bias from `column`). False where cublasLt
/// has no algorithm: y is undefined then.
bool multiply(const Operands& a, const ls_apply& call, uint64_t column, const Room& room);

/// Rows of sums at a time.
uint64_t sums_rows(uint64_t m, uint64_t n);

}  // namespace loadstone::common::cuda
