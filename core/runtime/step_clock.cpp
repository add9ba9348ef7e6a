#include "runtime/step_clock.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "runtime/torch_setup.hpp"

namespace loadstone::runtime {

StepClock::StepClock(c10::Device device) : device_(device) { lap(); }

void StepClock::lap() {
  if (device_.is_cpu()) {
    times_.push_back(std::chrono::steady_clock::now());
    return;
  }
  // The flag of events that keep their time.
  c10::Event& event = events_.emplace_back(device_.type(), c10::EventFlag::BACKEND_DEFAULT);
  event.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

std::vector<double> StepClock::seconds() {
  wait_for(device_);
  std::vector<double> out;
  for (size_t i = 1; i < times_.size(); ++i) {
    out.push_back(std::chrono::duration<double>(times_[i] - times_[i - 1]).count());
  }
  for (size_t i = 1; i < events_.size(); ++i) {
    out.push_back(events_[i - 1].elapsedTime(events_[i]) * 1e-3);
  }
  return out;
}

}  // namespace loadstone::runtime
