#include "load/memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <utility>

#include "base/text.hpp"
#include "load/loaded_model.hpp"

namespace loadstone::load {

namespace {

constexpr uint64_t kPageNbytes = 4096;
constexpr uint64_t kHugeNbytes = 2u << 20;
constexpr uint64_t round_up(uint64_t nbytes, uint64_t to) { return (nbytes + to - 1) / to * to; }

Error out_of_memory(uint64_t nbytes) {
  return Error{Code::resource, "out of memory", "",
               "found no " + human_nbytes(nbytes) + " to allocate", ""};
}

}  // namespace

Result<Block> Block::allocate(MemoryAccount& account, uint64_t nbytes) {
  Block block;
  if (nbytes == 0) return block;
  if (nbytes > UINT64_MAX / 2) return out_of_memory(nbytes);
  block.nbytes_ = round_up(nbytes, 64);
  void* at = std::aligned_alloc(64, block.nbytes_);
  if (at == nullptr) {
    block.nbytes_ = 0;
    return out_of_memory(nbytes);
  }
  block.data_ = static_cast<std::byte*>(at);
  block.account_ = &account;
  account.add(block.nbytes_);
  return block;
}

Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      nbytes_(std::exchange(other.nbytes_, 0)),
      account_(other.account_) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(nbytes_, other.nbytes_);
  std::swap(account_, other.account_);
  return *this;
}

Block::~Block() {
  if (data_ == nullptr) return;
  std::free(data_);
  account_->subtract(nbytes_);
}

Result<HostSlab> HostSlab::allocate(uint64_t nbytes) {
  HostSlab slab;
  if (nbytes == 0) return slab;
  if (nbytes > UINT64_MAX / 2) return out_of_memory(nbytes);
  // Mapped one huge page longer to start on its boundary; the rest is given back at once.
  uint64_t length = round_up(nbytes, kPageNbytes);
  uint64_t mapped = length + kHugeNbytes;
  void* raw = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return out_of_memory(nbytes);
  auto begin = reinterpret_cast<uintptr_t>(raw);
  uintptr_t aligned = round_up(begin, kHugeNbytes);
  if (aligned > begin) munmap(raw, aligned - begin);
  uintptr_t end = aligned + length;
  if (begin + mapped > end) munmap(reinterpret_cast<void*>(end), begin + mapped - end);
  slab.data_ = reinterpret_cast<std::byte*>(aligned);
  slab.nbytes_ = nbytes;
  slab.mapped_nbytes_ = length;
  return slab;
}

HostSlab::HostSlab(HostSlab&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      nbytes_(std::exchange(other.nbytes_, 0)),
      mapped_nbytes_(std::exchange(other.mapped_nbytes_, 0)) {}

HostSlab& HostSlab::operator=(HostSlab&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(nbytes_, other.nbytes_);
  std::swap(mapped_nbytes_, other.mapped_nbytes_);
  return *this;
}

HostSlab::~HostSlab() {
  if (data_ != nullptr) munmap(data_, mapped_nbytes_);
}

}  // namespace loadstone::load
