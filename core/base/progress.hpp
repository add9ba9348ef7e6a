// Progress of long work: one line on a terminal, a few plain lines elsewhere.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace loadstone {

/// A step of work as it goes. `unit` is "bytes", "layers", "steps", …
struct ProgressEvent {
  std::string phase;
  uint64_t done = 0;
  uint64_t total = 0;
  std::string unit;
};

/// Called from the thread that made progress, never concurrently; must be quick.
using ProgressSink = std::function<void(const ProgressEvent&)>;

}  // namespace loadstone
