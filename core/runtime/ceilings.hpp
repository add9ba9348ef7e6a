// What a machine can do at most, measured: the measure that `loadstone bench` holds its figures to.
// Free of LibTorch's headers.
#pragma once

#include <cstdint>
#include <loadstone/runtime.hpp>

namespace loadstone::runtime {

struct Ceilings {
  double flops = 0;          // a second, of one large product in the dtype that networks compute in
  double copied_nbytes = 0;  // a second, from pinned host memory to the GPU; 0 on the CPU
};

/// Medians of a few rounds on the GPU `gpu` (its index), or on the CPU for -1 with as many threads
/// as LibTorch has. Errors: unsupported (LibTorch can't use that GPU).
Result<Ceilings> measure_ceilings(int32_t gpu, Compute compute);

}  // namespace loadstone::runtime
