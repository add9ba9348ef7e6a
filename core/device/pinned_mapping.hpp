// A mapped file whose pages a GPU reads where they lie in the page cache.
//
// The copy then runs at the link's speed, but the driver pins one page after the other under one
// lock: 20 GB of 4 KiB pages took 1.3 to 2.1 s to pin and 0.4 to 0.7 to give back, with 1 thread or
// 16 (H100, driver 580).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/mapping.hpp"
#include "base/result.hpp"

namespace loadstone::device {

/// Pins the file window by window, when something of it is first asked for, until it is destroyed.
/// The CPU touches none of its bytes. Threads: `at` from any, each with its GPU current.
class PinnedMapping {
 public:
  /// Reads come in file order, 4 MiB and less: this many bytes are pinned by a few threads at once.
  static constexpr uint64_t kWindowNbytes = 16u << 20;

  /// `path`: for errors. Errors: unsupported where a GPU can't read such pages.
  static Result<std::unique_ptr<PinnedMapping>> make(uint32_t gpu, Mapping mapping,
                                                     std::string path);
  PinnedMapping(Mapping mapping, std::string path, uint32_t gpu);
  PinnedMapping(const PinnedMapping&) = delete;
  PinnedMapping& operator=(const PinnedMapping&) = delete;
  /// No copy from it is under way.
  ~PinnedMapping();

  /// The bytes from `offset` on, `nbytes` of them or as many as the window there holds. Errors: io
  /// (the file is shorter now), resource, unsupported.
  Result<std::span<const std::byte>> at(uint64_t offset, uint64_t nbytes);

 private:
  struct Window {
    std::mutex mutex;
    std::atomic<bool> pinned{false};
  };
  Status pin(uint64_t index);

  Mapping mapping_;
  std::string path_;
  uint32_t gpu_;
  uint64_t count_;
  std::unique_ptr<Window[]> windows_;
};

}  // namespace loadstone::device
