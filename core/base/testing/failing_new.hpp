// Fails the N-th allocation of the calling thread. A test program that wants it adds
// base/testing/failing_new.cpp to its sources, which replaces the global operator new.
#pragma once

#include <cstdint>

namespace loadstone::testing {

/// Allocations of this thread that still succeed; the next one throws std::bad_alloc. -1: all do.
extern thread_local int64_t allocations_left;

}  // namespace loadstone::testing
