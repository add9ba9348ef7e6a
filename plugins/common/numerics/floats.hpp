// Rows of F32, BF16 or F16 to and from float32, and the largest magnitude of a row.
#pragma once

#include <loadstone/plugin.h>

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

/// Bytes of one element of F32, BF16 or F16; 0 for anything else.
constexpr size_t float_nbytes(uint32_t dtype) {
  if (dtype == LS_DTYPE_F32) return 4;
  return dtype == LS_DTYPE_BF16 || dtype == LS_DTYPE_F16 ? 2 : 0;
}

/// `dtype` is LS_DTYPE_F32, BF16 or F16. Widening is exact, narrowing rounds to nearest even.
void widen(uint32_t dtype, const void* in, float* out, size_t n, Cpu cpu = cpu_in_use());
void narrow(uint32_t dtype, const float* in, void* out, size_t n, Cpu cpu = cpu_in_use());

/// max |x| over n values; NaN if any value is NaN, else Inf if any is infinite. 0 for n = 0.
float max_magnitude(const float* x, size_t n, Cpu cpu = cpu_in_use());

/// The larger of two results of max_magnitude: NaN above infinity above all numbers.
float larger_magnitude(float a, float b);

/// Whether a value is neither NaN nor infinite, by its bits.
bool is_finite(float x);

}  // namespace loadstone::common
