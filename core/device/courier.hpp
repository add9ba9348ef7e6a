// One thread's way onto a GPU: a stream, two pinned buffers that are filled in turn, and memory
// there for what is worked on before it reaches its place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "device/cuda.hpp"
#include "device/driver.hpp"
#include "device/pinned_ring.hpp"

namespace loadstone::device {

/// While one buffer travels the other is filled: `buffer` waits only for the copy before the last.
class Courier {
 public:
  static constexpr uint32_t kBuffers = 2;

  /// Takes up to kBuffers of the ring, when first filled, and stage_nbytes of the GPU's memory. The
  /// ring outlives it. Errors: unsupported, resource.
  static Result<Courier> make(uint32_t index, PinnedRing& ring, uint64_t stage_nbytes = 0);
  Courier() = default;
  Courier(Courier&& other) noexcept;
  Courier& operator=(Courier&& other) noexcept;
  /// Waits for what is under way.
  ~Courier();

  uint64_t buffer_nbytes() const { return ring_->buffer_nbytes(); }
  /// Seconds that its thread spent so far on pinning, and on waiting for copies.
  double pin_seconds() const { return pin_seconds_; }
  double wait_seconds() const { return wait_seconds_; }
  /// The next buffer, free to be written.
  Result<std::byte*> buffer();
  /// Sends the first `nbytes` of that buffer; returns at once.
  Status send(std::byte* to, uint64_t nbytes);
  /// Sends bytes that lie in pinned memory themselves and stay there; returns at once.
  Status send_pinned(std::byte* to, std::span<const std::byte> from);
  /// Sends any bytes through the buffers; they may be overwritten at once.
  Status copy(std::byte* to, const std::byte* from, uint64_t nbytes);
  /// Waits until everything sent has arrived and all work in stream order is done.
  Status finish();

  /// The GPU's memory for this thread alone, used in stream order.
  std::byte* stage() const { return stage_.data(); }
  uint64_t stage_nbytes() const { return stage_.nbytes(); }
  /// A cudaStream_t. Work of other threads must be waited for, not ordered by it.
  Handle stream() const { return stream_; }
  /// A stream for what is waited for at once: nothing else queues there. Null without stage memory.
  Handle side() const { return side_; }
  Status finish_side();
  /// From one place of the GPU to another, in stream order.
  Status copy_within(std::byte* to, const std::byte* from, uint64_t nbytes);
  /// Zeros a place of the GPU, in stream order.
  Status zero(std::byte* at, uint64_t nbytes);

 private:
  struct Buffer {
    std::byte* at = nullptr;
    Handle sent = nullptr;  // event
    bool under_way = false;
  };

  uint32_t index_ = 0;
  PinnedRing* ring_ = nullptr;
  Handle stream_ = nullptr, side_ = nullptr;
  Memory stage_;
  std::array<Buffer, kBuffers> buffers_;
  uint32_t next_ = 0;
  double pin_seconds_ = 0, wait_seconds_ = 0;
};

}  // namespace loadstone::device
