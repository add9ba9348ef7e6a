// Memory of a load that counts itself, so that a plan's prediction can be checked.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/result.hpp"

namespace loadstone::load {

/// Bytes allocated now and at most so far. Threads may count at once.
class MemoryAccount {
 public:
  void add(uint64_t nbytes) {
    uint64_t now = current_.fetch_add(nbytes, std::memory_order_relaxed) + nbytes;
    uint64_t peak = peak_.load(std::memory_order_relaxed);
    while (now > peak && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
  }
  void subtract(uint64_t nbytes) { current_.fetch_sub(nbytes, std::memory_order_relaxed); }
  uint64_t current() const { return current_.load(std::memory_order_relaxed); }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> current_{0};
  std::atomic<uint64_t> peak_{0};
};

/// A 64-byte aligned block, content undefined, counted rounded up to 64 bytes. Zero bytes are a
/// null pointer.
class Block {
 public:
  /// `account` must outlive the block. Errors: resource.
  static Result<Block> allocate(MemoryAccount& account, uint64_t nbytes);
  Block() = default;
  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  ~Block();

  std::byte* data() const { return data_; }
  uint64_t nbytes() const { return nbytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t nbytes_ = 0;  // as counted
  MemoryAccount* account_ = nullptr;
};

}  // namespace loadstone::load
