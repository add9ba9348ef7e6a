// A GPU's properties and memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace loadstone::device {

struct Properties {
  std::string name;
  uint32_t sm = 0;      // 80, 90, 100
  uint64_t nbytes = 0;  // of its memory
};

/// Errors: unsupported ("cannot use cuda:N: …") where there is no driver or no such GPU.
Result<Properties> properties(uint32_t index);

/// Bytes of a GPU's memory that nobody holds now, this process or another.
Result<uint64_t> free_nbytes(uint32_t index);

/// Memory of a GPU, freed with the object. Its address means nothing to the CPU.
class Memory {
 public:
  /// Errors: unsupported, resource.
  static Result<Memory> allocate(uint32_t index, uint64_t nbytes);
  Memory() = default;
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  ~Memory();
  std::byte* data() const { return data_; }
  uint64_t nbytes() const { return nbytes_; }

 private:
  uint32_t index_ = 0;
  std::byte* data_ = nullptr;
  uint64_t nbytes_ = 0;
};

/// Zeroed host memory that a GPU writes to by the same address, freed with the object.
class Pinned {
 public:
  /// Errors: unsupported, resource.
  static Result<Pinned> allocate(uint32_t index, uint64_t nbytes);
  Pinned() = default;
  Pinned(Pinned&& other) noexcept;
  Pinned& operator=(Pinned&& other) noexcept;
  ~Pinned();
  std::byte* data() const { return data_; }
  uint64_t nbytes() const { return nbytes_; }

 private:
  uint32_t index_ = 0;
  std::byte* data_ = nullptr;
  uint64_t nbytes_ = 0;
};

/// Copies from the GPU to `to` and waits for it.
Status read_back(uint32_t index, const std::byte* from, std::byte* to, uint64_t nbytes);
/// Copies to the GPU and waits for it.
Status write(uint32_t index, std::byte* to, const std::byte* from, uint64_t nbytes);

}  // namespace loadstone::device
