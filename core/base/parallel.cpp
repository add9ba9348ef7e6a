#include "base/parallel.hpp"

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace loadstone {
namespace {

// Set while a thread runs a body of some pool: a nested call then runs inline.
thread_local bool inside_body = false;

struct Job {
  size_t count = 0;
  const std::function<void(size_t)>* body = nullptr;
  std::atomic<size_t> next{0};
  size_t helpers = 0;  // pool threads inside run(); guarded by State::mutex

  void run() {
    inside_body = true;
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) (*body)(i);
    inside_body = false;
  }
};

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable finished;
  std::list<Job*> jobs;  // each on the stack of its caller
  bool stopping = false;
  std::vector<std::thread> threads;

  void serve() {
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [&] { return stopping || !jobs.empty(); });
      if (stopping) return;
      Job* job = jobs.front();
      ++job->helpers;
      lock.unlock();
      job->run();
      lock.lock();
      jobs.remove(job);  // run() returns when nothing is left to take
      if (--job->helpers == 0) finished.notify_all();
    }
  }
};

ThreadPool::ThreadPool(unsigned threads) : state_(std::make_unique<State>()) {
  for (unsigned i = 1; i < threads; ++i) state_->threads.emplace_back([this] { state_->serve(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->work.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

unsigned ThreadPool::threads() const { return static_cast<unsigned>(state_->threads.size()) + 1; }

void ThreadPool::for_each(size_t count, const std::function<void(size_t)>& body) {
  if (inside_body || count <= 1 || state_->threads.empty()) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  Job job;
  job.count = count;
  job.body = &body;
  {
    std::lock_guard lock(state_->mutex);
    state_->jobs.push_back(&job);
  }
  state_->work.notify_all();
  job.run();
  std::unique_lock lock(state_->mutex);
  state_->jobs.remove(&job);
  state_->finished.wait(lock, [&] { return job.helpers == 0; });
}

}  // namespace loadstone
