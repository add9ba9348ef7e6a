// Peak resident memory of this process over a stretch of work (Linux).
#pragma once

#include <optional>

namespace loadstone::compare {

/// Forgets the peak so far. False where the kernel doesn't allow it: then peaks can't be told
/// apart and aren't reported.
bool reset_memory_peak();
/// MiB resident at most since the last reset; nullopt if unknown.
std::optional<double> memory_peak_mib();

}  // namespace loadstone::compare
