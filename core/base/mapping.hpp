// A file's bytes in the address space.
#pragma once

#include <cstddef>
#include <cstdint>

namespace loadstone {

/// A shared, read-only mapping from the file's first byte on, unmapped with the object. Reading it
/// while another process shortens the file ends the program (SIGBUS), so nothing here does: it is
/// for devices.
class Mapping {
 public:
  Mapping() = default;
  /// Takes a mapping over. `nbytes`: the file's length.
  Mapping(const std::byte* data, uint64_t nbytes) : data_(data), nbytes_(nbytes) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  const std::byte* data() const { return data_; }
  uint64_t nbytes() const { return nbytes_; }

 private:
  const std::byte* data_ = nullptr;
  uint64_t nbytes_ = 0;
};

}  // namespace loadstone
