// What a load counts as it goes.
#pragma once

#include <chrono>
#include <cstdint>

namespace loadstone::load {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Seconds are summed over threads, but for release.
struct EngineTotals {
  uint64_t read_nbytes = 0, reads = 0, fed_nbytes = 0;
  uint64_t staging_nbytes = 0;  // of GPUs
  double admit_seconds = 0, feed_seconds = 0, end_seconds = 0;
  double read_seconds = 0;     // from files, pinning and waiting for buffers left out
  double pin_seconds = 0;      // pinning buffers
  double wait_seconds = 0;     // for buffers that are on their way to a GPU
  double idle_seconds = 0;     // for something to do
  double arrive_seconds = 0;   // for the last copies
  double release_seconds = 0;  // giving back what only the load needs

  void add(const EngineTotals& other) {
    read_nbytes += other.read_nbytes;
    reads += other.reads;
    fed_nbytes += other.fed_nbytes;
    admit_seconds += other.admit_seconds;
    feed_seconds += other.feed_seconds;
    end_seconds += other.end_seconds;
    read_seconds += other.read_seconds;
    pin_seconds += other.pin_seconds;
    wait_seconds += other.wait_seconds;
    idle_seconds += other.idle_seconds;
    arrive_seconds += other.arrive_seconds;
  }
};

}  // namespace loadstone::load
