// Seconds of the steps of a run, taken where the work is done: on a GPU by its own events, without
// waiting for it between steps.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <chrono>
#include <vector>

namespace loadstone::runtime {

class StepClock {
 public:
  /// The first step begins now.
  explicit StepClock(c10::Device device);
  /// A step ends and the next one begins.
  void lap();
  /// Waits for the last step. Seconds of each.
  std::vector<double> seconds();

 private:
  c10::Device device_;
  std::vector<std::chrono::steady_clock::time_point> times_;  // of the CPU
  std::vector<c10::Event> events_;                            // of a GPU
};

}  // namespace loadstone::runtime
