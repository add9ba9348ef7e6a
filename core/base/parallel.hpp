// Threads lent to plugins and used by the loader.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace loadstone {

/// A cancel flag that a signal handler may set.
class CancelToken {
 public:
  void cancel() { flag_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return flag_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> flag_{false};
};

/// A fixed pool. `for_each` runs body(i) for i in [0, count) on the pool's and the calling thread
/// and returns when all are done; nested calls run inline. Bodies must not throw.
class ThreadPool {
 public:
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const;
  void for_each(size_t count, const std::function<void(size_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Number of usable processors (affinity and cgroup quota respected), at least 1.
unsigned usable_threads();

}  // namespace loadstone
