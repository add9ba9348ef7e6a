// Inside the products: a few rows of x, multiplied row by row of W as it is decoded. With so few,
// reading W is the work: nothing is packed, padded or kept.
#pragma once

#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

/// The most rows of x that go this way (measured: tests/bench/RESULTS.md).
inline constexpr uint64_t kFewRows = 4;

/// Σ_k w[k]·x[k], w as bf16 bits, float32 sums in a fixed order for each level. Any alignment.
float dot_bf16(const uint16_t* w, const float* x, uint64_t k, Cpu cpu = cpu_in_use());

/// Σ_g scales[g]·Σ_{k∈g} w[k]·x[k], groups of 32 columns, the last maybe shorter.
float dot_bf16_groups(const uint16_t* w, const float* scales, const float* x, uint64_t k,
                      Cpu cpu = cpu_in_use());

/// dot_bf16 of floats.
float dot_f32(const float* w, const float* x, uint64_t k, Cpu cpu = cpu_in_use());

/// dot_bf16 of two rows of int8 codes, exact; k at most 2^16.
int32_t dot_int8(const int8_t* w, const int8_t* x, uint64_t k, Cpu cpu = cpu_in_use());

/// Σ_g scales[g]·Σ_{k∈g} w[k]·x[k] of packed e2m1 codes (even column low), groups of 16 or 32
/// columns, the last maybe shorter; k even.
float dot_e2m1(const uint8_t* packed, const float* scales, uint64_t group, const float* x,
               uint64_t k, Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
