// What a run takes of a GPU beside what was there before it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace loadstone::runtime {

/// What cuBLAS and cuDNN are taken to hold for one stream: cuBLAS 32 MiB on Hopper, cuDNN's plans
/// as much again.
constexpr uint64_t kLibrariesNbytes = 64u << 20;

/// Bytes of LibTorch's tensors on one device: peaks, counted from what they were when this was
/// made. Zero on the CPU. One at a time a device: LibTorch keeps one peak.
class DeviceMeter {
 public:
  explicit DeviceMeter(c10::Device device);
  /// The peak since the last lap, or since this was made.
  uint64_t lap();

 private:
  c10::Device device_;
  int64_t before_ = 0;
};

}  // namespace loadstone::runtime
