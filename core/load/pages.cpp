#include "load/pages.hpp"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>

namespace loadstone::load {

namespace {

constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14; glibc may not name it

/// Of this thread: waiting for a processor doesn't count.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

CheaperWay::Choice CheaperWay::choose() {
  std::lock_guard lock(mutex_);
  ++choices_;
  const Way &first = ways_[0], &second = ways_[1];
  int way = 1;
  bool trial = first.last_choice == 0;
  if (trial || (first.seconds_per_byte >= 0 && second.last_choice != 0 &&
                first.seconds_per_byte <= second.seconds_per_byte)) {
    way = 0;
  }
  bool both_known = first.seconds_per_byte >= 0 && second.seconds_per_byte >= 0;
  const Way &cheap = ways_[static_cast<size_t>(way)], &dear = ways_[static_cast<size_t>(1 - way)];
  auto waited = static_cast<double>(choices_ - dear.last_choice);
  if (both_known && waited * cheap.seconds_per_byte > kRetryEvery * dear.seconds_per_byte) {
    way = 1 - way;
    trial = true;
  }
  ways_[static_cast<size_t>(way)].last_choice = choices_;
  return {way, trial};
}

void CheaperWay::learn(int way, double seconds, uint64_t nbytes) {
  if (nbytes == 0) return;
  double cost = seconds / static_cast<double>(nbytes);
  std::lock_guard lock(mutex_);
  double& known = ways_[static_cast<size_t>(way)].seconds_per_byte;
  known = known < 0 ? cost : (1 - kWeight) * known + kWeight * cost;
}

void SlabPages::add(std::byte* at, uint64_t nbytes) {
  if (nbytes == 0) return;
  Slab slab;
  slab.begin = reinterpret_cast<uintptr_t>(at);
  slab.end = slab.begin + nbytes;
  uint64_t first = slab.begin / kWindowNbytes, last = (slab.end - 1) / kWindowNbytes;
  slab.done = std::make_unique<std::atomic<bool>[]>(last - first + 1);
  slab.way =
      std::make_unique<std::atomic<int>[]>(last / kRegionWindows - first / kRegionWindows + 1);
  for (uint64_t i = 0; i <= last / kRegionWindows - first / kRegionWindows; ++i) slab.way[i] = 1;
  (void)madvise(at, nbytes, MADV_NOHUGEPAGE);
  slabs_.push_back(std::move(slab));
}

void SlabPages::prepare(std::byte* at, uint64_t nbytes) {
  auto begin = reinterpret_cast<uintptr_t>(at);
  for (Slab& slab : slabs_) {
    if (nbytes == 0 || begin < slab.begin || begin >= slab.end) continue;
    uintptr_t end = std::min(begin + nbytes, slab.end);
    for (uintptr_t window = begin / kWindowNbytes; window * kWindowNbytes < end; ++window) {
      auto& done = slab.done[window - slab.begin / kWindowNbytes];
      if (!done.exchange(true, std::memory_order_relaxed)) bring(slab, window);
    }
  }
}

void SlabPages::bring(Slab& slab, uintptr_t window) {
  uintptr_t begin = std::max(window * kWindowNbytes, slab.begin);
  uintptr_t end = std::min((window + 1) * kWindowNbytes, slab.end);
  uintptr_t region = window / kRegionWindows;
  std::atomic<int>& known = slab.way[region - slab.begin / kWindowNbytes / kRegionWindows];
  CheaperWay::Choice choice = way_.choose();
  double start = processor_seconds();
  // Advice only: where the kernel doesn't take it, the write itself faults the pages in.
  if (choice.way != known.load(std::memory_order_relaxed)) {
    // A preference holds for what follows in the region, a trial for its window.
    uintptr_t until = end;
    if (!choice.trial) {
      until = std::min((region + 1) * kRegionWindows * kWindowNbytes, slab.end);
      known.store(choice.way, std::memory_order_relaxed);
    }
    (void)madvise(reinterpret_cast<void*>(begin), until - begin,
                  choice.way == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  bool brought = madvise(reinterpret_cast<void*>(begin), end - begin, kPopulateWrite) == 0;
  if (brought) way_.learn(choice.way, processor_seconds() - start, end - begin);
}

}  // namespace loadstone::load
