// One thread's way onto a GPU: a stream and two pinned buffers that are filled in turn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/result.hpp"
#include "device/driver.hpp"

namespace loadstone::device {

/// While one buffer travels the other is filled: `buffer` waits only for the copy before the last.
class Courier {
 public:
  static constexpr uint32_t kBuffers = 2;

  /// Takes kBuffers · buffer_nbytes of pinned host memory. Errors: unsupported, resource.
  static Result<Courier> make(uint32_t index, uint64_t buffer_nbytes);
  Courier() = default;
  Courier(Courier&& other) noexcept;
  Courier& operator=(Courier&& other) noexcept;
  /// Waits for what is under way.
  ~Courier();

  uint64_t buffer_nbytes() const { return buffer_nbytes_; }
  /// The next buffer, free to be written.
  Result<std::byte*> buffer();
  /// Sends the first `nbytes` of that buffer; returns at once.
  Status send(std::byte* to, uint64_t nbytes);
  /// Sends any bytes through the buffers; they may be overwritten at once.
  Status copy(std::byte* to, const std::byte* from, uint64_t nbytes);
  /// Waits until everything sent has arrived.
  Status finish();

 private:
  struct Buffer {
    std::byte* at = nullptr;
    Handle sent = nullptr;  // event
    bool under_way = false;
  };

  uint32_t index_ = 0;
  uint64_t buffer_nbytes_ = 0;
  Handle stream_ = nullptr;
  std::array<Buffer, kBuffers> buffers_;
  uint32_t next_ = 0;
};

}  // namespace loadstone::device
