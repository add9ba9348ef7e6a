#include "runtime/device_memory.hpp"

#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>

namespace loadstone::runtime {
namespace {

constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

c10::CachingAllocator::Stat allocated(c10::Device device) {
  return c10::getDeviceAllocator(device.type())
      ->getDeviceStats(device.index())
      .allocated_bytes.at(kAll);
}

void forget_peak(c10::Device device) {
  c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

}  // namespace

DeviceMeter::DeviceMeter(c10::Device device) : device_(device) {
  if (device_.is_cpu()) return;
  before_ = allocated(device_).current;
  forget_peak(device_);
}

uint64_t DeviceMeter::lap() {
  if (device_.is_cpu()) return 0;
  const int64_t peak = allocated(device_).peak;
  forget_peak(device_);
  return static_cast<uint64_t>(std::max<int64_t>(0, peak - before_));
}

}  // namespace loadstone::runtime
