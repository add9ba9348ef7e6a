#include "device/pinned_ring.hpp"

#include <sys/mman.h>

#include <limits>
#include <utility>

#include "base/checked.hpp"
#include "device/driver.hpp"

namespace loadstone::device {

namespace {

constexpr unsigned kPortable = 1;  // CU_MEMHOSTREGISTER_PORTABLE: for all GPUs
constexpr uint64_t kPageNbytes = 4096;
constexpr uint64_t kHugeNbytes = 2u << 20;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE; glibc 2.36 may not name it

constexpr uint64_t round_up(uint64_t nbytes, uint64_t to) { return (nbytes + to - 1) / to * to; }

Error no_memory(std::string found) {
  return Error{Code::resource, "pinning host memory failed", "", "found " + std::move(found), ""};
}

}  // namespace

Result<PinnedRing> PinnedRing::reserve(uint64_t count, uint64_t nbytes) {
  PinnedRing ring;
  if (count == 0 || nbytes == 0) return ring;
  if (nbytes > std::numeric_limits<uint64_t>::max() / 2) return no_memory("no address space");
  const uint64_t pitch = round_up(nbytes, kPageNbytes);
  const auto length = checked_mul(count, pitch);
  const auto mapped = length ? checked_add(*length, kHugeNbytes) : std::nullopt;
  if (!mapped) return no_memory("no address space");
  // Mapped one huge page longer to start on its boundary; the rest is given back at once.
  void* raw = mmap(nullptr, *mapped, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return no_memory("no address space");
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = round_up(begin, kHugeNbytes);
  if (aligned > begin) munmap(raw, aligned - begin);
  const uintptr_t end = aligned + *length;
  if (begin + *mapped > end) munmap(reinterpret_cast<void*>(end), begin + *mapped - end);
  ring.data_ = reinterpret_cast<std::byte*>(aligned);
  ring.mapped_nbytes_ = *length;
  ring.count_ = count;
  ring.nbytes_ = nbytes;
  ring.pitch_nbytes_ = pitch;
  ring.registered_ = std::make_unique<std::atomic<bool>[]>(count);
  // A refusal leaves small pages, which are right too.
  madvise(ring.data_, ring.mapped_nbytes_, MADV_HUGEPAGE);
  return ring;
}

Result<std::byte*> PinnedRing::take(uint32_t gpu) {
  const uint64_t index = taken_.fetch_add(1);
  if (index >= count_) return no_memory("all " + std::to_string(count_) + " buffers taken");
  std::byte* const at = data_ + index * pitch_nbytes_;
  // Where the kernel can't, registering brings the pages in, one by one.
  madvise(at, pitch_nbytes_, kPopulateWrite);
  LS_CHECK(check(driver()->host_register(at, pitch_nbytes_, kPortable), "pinning host memory"));
  registered_[index] = true;
  gpu_ = gpu;
  return at;
}

PinnedRing::PinnedRing(PinnedRing&& other) noexcept { *this = std::move(other); }

PinnedRing& PinnedRing::operator=(PinnedRing&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(mapped_nbytes_, other.mapped_nbytes_);
  std::swap(count_, other.count_);
  std::swap(nbytes_, other.nbytes_);
  std::swap(pitch_nbytes_, other.pitch_nbytes_);
  taken_ = other.taken_.exchange(taken_);
  std::swap(registered_, other.registered_);
  gpu_ = other.gpu_.exchange(gpu_);
  return *this;
}

PinnedRing::~PinnedRing() {
  if (data_ == nullptr) return;
  for (uint64_t i = 0; i < count_; ++i) {
    if (registered_[i] && enter(gpu_).ok()) {
      driver()->host_unregister(data_ + i * pitch_nbytes_);
    }
  }
  munmap(data_, mapped_nbytes_);
}

}  // namespace loadstone::device
