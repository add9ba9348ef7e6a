// LibTorch made ready, once a process.
#pragma once

#include "base/result.hpp"

namespace loadstone::runtime {

/// Refuses a LibTorch of another version than this was built for (it would run and be wrong), sets
/// the threads of its operators (0: usable_threads()) and makes its product the one that plugins
/// call. Errors: unsupported.
Status set_up_torch(unsigned threads);

}  // namespace loadstone::runtime
