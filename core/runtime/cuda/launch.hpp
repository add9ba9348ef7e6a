// What calls of this folder's kernels share. Needs neither LibTorch's nor CUDA's headers.
//
// Nothing here allocates or synchronizes. Values are widened to float32, results rounded once.
// Each call returns null, or the CUDA runtime's text where the kernel was not queued.
#pragma once

#include <cstdint>

namespace loadstone::runtime::cuda {

enum class Float : uint8_t { f32, f16, bf16 };

/// Where a kernel is queued: CUDA's number of the GPU and a cudaStream_t of it.
struct Queue {
  int device = 0;
  void* stream = nullptr;
};

/// Whether this build's kernels run on that GPU. Asked once a GPU.
bool runs_on(int device);

}  // namespace loadstone::runtime::cuda
