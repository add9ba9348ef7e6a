// Who computed attention, for reports. Needs no LibTorch header.
#pragma once

#include <cstdint>

namespace loadstone::runtime {

/// Calls of this process so far: by cuDNN, and by what LibTorch chose.
struct AttentionCalls {
  uint64_t cudnn = 0, torch = 0;
};
AttentionCalls attention_calls();

}  // namespace loadstone::runtime
