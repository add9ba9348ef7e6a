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

int CheaperWay::choose() {
  std::lock_guard lock(mutex_);
  ++choices_;
  const Way &first = ways_[0], &second = ways_[1];
  int way = 1;
  if (first.last_choice == 0 || (first.seconds_per_byte >= 0 && second.last_choice != 0 &&
                                 first.seconds_per_byte <= second.seconds_per_byte)) {
    way = 0;
  }
  bool both_known = first.seconds_per_byte >= 0 && second.seconds_per_byte >= 0;
  const Way &cheap = ways_[static_cast<size_t>(way)], &dear = ways_[static_cast<size_t>(1 - way)];
  auto waited = static_cast<double>(choices_ - dear.last_choice);
  if (both_known && waited * cheap.seconds_per_byte > kRetryEvery * dear.seconds_per_byte) {
    way = 1 - way;
  }
  ways_[static_cast<size_t>(way)].last_choice = choices_;
  return way;
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
  uint64_t windows = (slab.end - 1) / kWindowNbytes - slab.begin / kWindowNbytes + 1;
  slab.done = std::make_unique<std::atomic<bool>[]>(windows);
  slabs_.push_back(std::move(slab));
}

void SlabPages::prepare(std::byte* at, uint64_t nbytes) {
  auto begin = reinterpret_cast<uintptr_t>(at);
  for (Slab& slab : slabs_) {
    if (nbytes == 0 || begin < slab.begin || begin >= slab.end) continue;
    uintptr_t end = std::min(begin + nbytes, slab.end);
    for (uintptr_t window = begin / kWindowNbytes; window * kWindowNbytes < end; ++window) {
      auto& done = slab.done[window - slab.begin / kWindowNbytes];
      if (done.exchange(true, std::memory_order_relaxed)) continue;
      bring(std::max(window * kWindowNbytes, slab.begin),
            std::min((window + 1) * kWindowNbytes, slab.end));
    }
  }
}

void SlabPages::bring(uintptr_t begin, uintptr_t end) {
  void* at = reinterpret_cast<void*>(begin);
  uint64_t nbytes = end - begin;
  int way = way_.choose();
  double start = processor_seconds();
  // Advice only: where the kernel doesn't take it, the write itself faults the pages in.
  (void)madvise(at, nbytes, way == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  bool brought = madvise(at, nbytes, kPopulateWrite) == 0;
  if (brought) way_.learn(way, processor_seconds() - start, nbytes);
}

}  // namespace loadstone::load
