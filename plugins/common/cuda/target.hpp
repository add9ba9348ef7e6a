// What every method asks of a GPU before it plans a layer there.
#pragma once

#include <loadstone/plugin.hpp>

#include "common/layer/matrices.hpp"

namespace loadstone::common::cuda {

inline constexpr uint32_t kLeastSm = 80;  // the first with bf16 products

/// False, with the verdict, for GPUs that no kernel is written for and for experts.
inline bool takes(const std::string& method, const sdk::Target& target, uint32_t groups,
                  NoForm& instead) {
  if (target.sm < kLeastSm) {
    return instead.set(LS_VERDICT_UNSUPPORTED, method + ": found sm" + std::to_string(target.sm) +
                                                   ", expected sm" + std::to_string(kLeastSm) +
                                                   " or newer for its CUDA kernels");
  }
  if (groups > 1) {
    return instead.set(LS_VERDICT_UNSUPPORTED, method + ": experts have no CUDA kernel");
  }
  return true;
}

/// What a plan says beside a "simt" kernel's name.
inline std::string simt_reason(uint64_t n, uint64_t k) {
  return "a shape or layout that tensor cores don't take (" + std::to_string(n) + " x " +
         std::to_string(k) + "): plain units, 20 to 100 times slower";
}

}  // namespace loadstone::common::cuda
