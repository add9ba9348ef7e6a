// y = x·Wᵀ straight from blocks, for a few rows of x, so the weight is read once: each run of
// blocks is decoded into a buffer that stays in the first cache and multiplied there; four-bit
// codes with AVX-512 are looked up and multiplied in registers.
#pragma once

#include <cstdint>

#include "common/cpu.hpp"
#include "common/ggml/types.hpp"

namespace loadstone::ggml {

inline constexpr uint64_t kMaxMultiplyRows = 4;

/// y[i·y_stride + r] = Σ_k x[i·in + k]·W[r][k] for i in [0, m), m at most kMaxMultiplyRows, and the
/// `rows` rows of whole blocks at `blocks`. float32, the order of sums fixed for each level.
void multiply(Type type, const uint8_t* blocks, uint64_t rows, uint64_t in, const float* x,
              uint64_t m, float* y, uint64_t y_stride, common::Cpu cpu = common::cpu_in_use());

}  // namespace loadstone::ggml
