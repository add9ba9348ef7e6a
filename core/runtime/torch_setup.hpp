// LibTorch made ready, once a process.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <loadstone/runtime.hpp>

#include "base/result.hpp"

namespace loadstone::runtime {

/// LibTorch's CUDA side, opened once a process for GPU `index`, before any tensor is put there;
/// float32 products and convolutions without TF32. Errors: unsupported ("cannot use cuda:N: …").
Status set_up_cuda(int32_t index);
/// Waits for all that LibTorch has begun on this device; nothing on the CPU.
void wait_for(c10::Device device);

/// Memory that a run may still take on this device: what is free, and what LibTorch holds unused.
/// No limit on the CPU.
uint64_t free_nbytes(c10::Device device);
c10::ScalarType scalar_type_of(Compute compute);

/// Refuses a LibTorch of another version than this was built for (it would run and be wrong), sets
/// the threads of its operators (0: usable_threads()) and makes its product the one that plugins
/// call. Errors: unsupported.
Status set_up_torch(unsigned threads);

}  // namespace loadstone::runtime
