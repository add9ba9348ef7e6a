// Pinned host memory for many threads, brought in buffer by buffer by the threads that use it.
//
// A load of 20 GB takes half a second, so what its ring costs shows: 64 MiB of cuMemHostAlloc took
// 49 ms there and 17 ms to give back, whatever the number of threads; the same on huge pages,
// registered, 16 and 2 (H100, driver 580).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.hpp"

namespace loadstone::device {

/// Address space for `count` buffers of `nbytes` each, page aligned; no memory yet. Threads: `take`
/// from any, each with its GPU current (device::enter).
class PinnedRing {
 public:
  /// Errors: resource.
  static Result<PinnedRing> reserve(uint64_t count, uint64_t nbytes);
  PinnedRing() = default;
  PinnedRing(PinnedRing&& other) noexcept;
  PinnedRing& operator=(PinnedRing&& other) noexcept;
  /// Nothing that was taken is in use. A GPU it was taken for is made current.
  ~PinnedRing();

  /// The next buffer, pinned for all GPUs, content undefined. Errors: resource (more than `count`
  /// taken, no memory), io.
  Result<std::byte*> take(uint32_t gpu);
  uint64_t buffer_nbytes() const { return nbytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t mapped_nbytes_ = 0;
  uint64_t count_ = 0, nbytes_ = 0, pitch_nbytes_ = 0;
  std::atomic<uint64_t> taken_{0};
  std::unique_ptr<std::atomic<bool>[]> registered_;  // parallel to the buffers
  std::atomic<uint32_t> gpu_{0};                     // one that a buffer was taken for
};

}  // namespace loadstone::device
