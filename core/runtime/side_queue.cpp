#include "runtime/side_queue.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace loadstone::runtime {
namespace {

c10::Stream current(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

SideQueue::SideQueue(at::Device device, bool beside) : device_(device) {
  if (!beside || device.is_cpu()) return;
  side_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  event_.emplace(device.type());
}

void SideQueue::begin() {
  event_->record(current(device_));
  event_->block(*side_);
}

void SideQueue::join() {
  if (joined_) return;
  event_->block(current(device_));
  joined_ = true;
  kept_.clear();
}

}  // namespace loadstone::runtime
