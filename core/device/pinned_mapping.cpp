#include "device/pinned_mapping.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/text.hpp"
#include "device/driver.hpp"

namespace loadstone::device {

namespace {

constexpr unsigned kPortable = 1, kReadOnly = 8;  // CU_MEMHOSTREGISTER_*
constexpr int kReadOnlySupported = 113;           // CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_…
constexpr int kPopulateRead = 22;                 // MADV_POPULATE_READ; glibc 2.36 may not name it
constexpr uint64_t kPageNbytes = 4096;

Error cannot_pin(const std::string& path, std::string found) {
  return Error{Code::unsupported, "pinning a file for the GPU failed", escaped(path),
               "found " + std::move(found) + ", expected pages that a GPU can read in place",
               "load.io: pread"};
}

}  // namespace

Result<std::unique_ptr<PinnedMapping>> PinnedMapping::make(uint32_t gpu, Mapping mapping,
                                                           std::string path) {
  LS_CHECK(enter(gpu));
  const Driver& d = *driver();
  int device = 0, supported = 0;
  LS_CHECK(check(d.get(&device, static_cast<int>(gpu)), "asking a GPU"));
  LS_CHECK(check(d.attribute(&supported, kReadOnlySupported, device), "asking a GPU"));
  if (supported == 0) {
    return cannot_pin(path, "a GPU or driver that takes no read-only host memory");
  }
  return std::make_unique<PinnedMapping>(std::move(mapping), std::move(path), gpu);
}

PinnedMapping::PinnedMapping(Mapping mapping, std::string path, uint32_t gpu)
    : mapping_(std::move(mapping)),
      path_(std::move(path)),
      gpu_(gpu),
      count_((mapping_.nbytes() + kWindowNbytes - 1) / kWindowNbytes),
      windows_(std::make_unique<Window[]>(count_)) {}

PinnedMapping::~PinnedMapping() {
  if (!enter(gpu_).ok()) return;
  for (uint64_t i = 0; i < count_; ++i) {
    if (!windows_[i].pinned) continue;
    driver()->host_unregister(const_cast<std::byte*>(mapping_.data() + i * kWindowNbytes));
  }
}

Status PinnedMapping::pin(uint64_t index) {
  const uint64_t begin = index * kWindowNbytes;
  const uint64_t left = std::min(kWindowNbytes, mapping_.nbytes() - begin);
  const uint64_t nbytes = (left + kPageNbytes - 1) / kPageNbytes * kPageNbytes;
  auto* const at = const_cast<std::byte*>(mapping_.data() + begin);
  // Brings the pages in; unlike a read it says that the file has become shorter, and stays alive.
  // Where the kernel doesn't know it, registering brings them.
  if (madvise(at, nbytes, kPopulateRead) != 0 && errno == EFAULT) {
    return Error{Code::io, "file changed while reading", escaped(path_),
                 "found pages missing from byte " + std::to_string(begin) + " on, expected " +
                     std::to_string(mapping_.nbytes()) + " bytes",
                 ""};
  }
  const int code = driver()->host_register(at, nbytes, kPortable | kReadOnly);
  if (code != 0) return cannot_pin(path_, driver()->describe(code));
  return {};
}

Result<std::span<const std::byte>> PinnedMapping::at(uint64_t offset, uint64_t nbytes) {
  if (offset > mapping_.nbytes() || nbytes > mapping_.nbytes() - offset) {
    return Error{Code::io, "file changed while reading", escaped(path_),
                 "found " + std::to_string(mapping_.nbytes()) + " bytes, expected " +
                     std::to_string(nbytes) + " at byte " + std::to_string(offset),
                 ""};
  }
  if (nbytes == 0) return std::span<const std::byte>();
  const uint64_t index = offset / kWindowNbytes;
  Window& window = windows_[index];
  if (!window.pinned) {
    std::lock_guard lock(window.mutex);
    if (!window.pinned) {
      LS_CHECK(pin(index));
      window.pinned = true;
    }
  }
  const uint64_t here = std::min(nbytes, (index + 1) * kWindowNbytes - offset);
  return std::span(mapping_.data() + offset, here);
}

}  // namespace loadstone::device
