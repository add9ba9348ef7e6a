// What host code around kernels shares. CUDA errors become failures; nothing synchronizes.
#pragma once

#include <cuda_runtime_api.h>

#include <loadstone/plugin.hpp>

namespace loadstone::common::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  sdk::fail(status == cudaErrorMemoryAllocation ? LS_RESOURCE : LS_INTERNAL,
            std::string(what) + " failed: " + cudaGetErrorString(status));
}

inline cudaStream_t stream_of(const ls_apply& call) {
  return static_cast<cudaStream_t>(call.stream);
}

/// The GPU that a pointer belongs to. Errors (thrown): LS_INVALID_ARGUMENT for host memory.
inline int device_of(const void* at) {
  cudaPointerAttributes found{};
  check(cudaPointerGetAttributes(&found, at), "asking where a tensor lies");
  if (found.type != cudaMemoryTypeDevice && found.type != cudaMemoryTypeManaged) {
    sdk::fail(LS_INVALID_ARGUMENT, "tensor rejected: found host memory, expected a GPU's");
  }
  return found.device;
}

/// Makes a GPU the calling thread's for its lifetime: launches go to the current one.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "asking for the GPU");
    if (before_ == device) return;
    check(cudaSetDevice(device), "choosing a GPU");
    changed_ = true;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// Cuts one buffer into runs aligned for anything; with a null base it only counts.
class Cutter {
 public:
  explicit Cutter(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T>
  T* take(uint64_t count) {
    const uint64_t at = used_;
    used_ += (count * sizeof(T) + 255) / 256 * 256;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  uint64_t used() const { return used_; }

 private:
  char* base_;
  uint64_t used_ = 0;
};

}  // namespace loadstone::common::cuda
