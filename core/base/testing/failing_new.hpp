// Fails the N-th allocation of the calling thread, and measures the largest. A test program that
// wants it adds base/testing/failing_new.cpp to its sources, which replaces the global operator
// new.
#pragma once

#include <cstddef>
#include <cstdint>

namespace loadstone::testing {

/// Allocations of this thread that still succeed; the next one throws std::bad_alloc. -1: all do.
extern thread_local int64_t allocations_left;

/// Bytes of the largest allocation of this thread since it was last set to 0.
extern thread_local size_t largest_allocation;

}  // namespace loadstone::testing
