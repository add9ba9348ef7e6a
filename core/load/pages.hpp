// Pages of slabs, brought in by the threads that are about to fill them.
//
// Page faults decide a load from the page cache, and which page size is cheap depends on the
// machine and the moment: here 4 GiB on huge pages took 0.25 s/GiB when the kernel had them at
// hand, and 7 s/GiB when a hypervisor had to back them first, where small pages took 0.4 to 0.9.
// So both are tried and the cheaper one is used, measured again now and then.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace loadstone::load {

/// Picks between two ways by what each cost so far; the second while nothing is known. Threads may
/// use it at once.
class CheaperWay {
 public:
  struct Choice {
    int way = 0;         // 0 or 1
    bool trial = false;  // only to measure: says nothing about what comes next
  };
  Choice choose();
  /// `seconds` that `nbytes` took in that way.
  void learn(int way, double seconds, uint64_t nbytes);

 private:
  // The dearer way is measured again after this many choices times how much dearer it was: what
  // that costs is 1/kRetryEvery of the whole.
  static constexpr double kRetryEvery = 32;
  static constexpr double kWeight = 0.4;  // of the newest measurement

  struct Way {
    uint64_t last_choice = 0;      // 0: never
    double seconds_per_byte = -1;  // negative: not measured
  };
  std::mutex mutex_;
  std::array<Way, 2> ways_;
  uint64_t choices_ = 0;
};

/// Windows of slabs whose pages come in one go, before the first write, by the writing thread.
/// Threads: `add` first, then `prepare` from any.
class SlabPages {
 public:
  /// Reads straight to their place are cut at multiples of this in memory.
  static constexpr uint64_t kWindowNbytes = 4u << 20;

  /// A private mapping that begins on a page; nobody writes to it yet.
  void add(std::byte* at, uint64_t nbytes);
  /// Every window that the range touches is brought in unless it was before.
  void prepare(std::byte* at, uint64_t nbytes);

 private:
  // Advice on a page size takes the address space's lock for writing, which stops the faults of all
  // threads: it is given to so many windows at once.
  static constexpr uint64_t kRegionWindows = 32;

  struct Slab {
    uintptr_t begin = 0, end = 0;
    std::unique_ptr<std::atomic<bool>[]> done;  // a window each, from the one that holds begin
    std::unique_ptr<std::atomic<int>[]> way;    // a region each, from the one that holds begin
  };
  void bring(Slab& slab, uintptr_t window);

  std::vector<Slab> slabs_;
  CheaperWay way_;  // 0: huge pages, 1: small ones
};

}  // namespace loadstone::load
