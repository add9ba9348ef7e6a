// Dual-scale MXFP4: e2m1 elements under two levels of scales, 512 values over 32.
// Source: numeric-definitions, section 4.3. Oracles: numerics.json (dualscale_*, dual_level0),
// layers (mxfp4_dualscale).
//   d = amax(512)·fl(1/6), 0 below 2^-126;  t = round(x/d), to x's dtype (0 for d = 0);
//   b = OCP byte of 32 t's (mx.hpp), at most 127;  q = e2m1(t·2^(127-b));  value (q·2^(b-127))·d.
// A group that isn't finite has d NaN, and so are its values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

inline constexpr size_t kDualGroup = 512;

/// What x, and with it t, is rounded to.
enum class DualDtype { bf16, f16 };

float dual_scale(float amax);

/// n values, a multiple of 512, each of `dtype` already: n codes, one a byte, n/32 scale bytes and
/// n/512 outer scales.
void dual_quantize(DualDtype dtype, const float* x, uint8_t* codes, uint8_t* scales, float* outer,
                   size_t n, Cpu cpu = cpu_in_use());

/// n codes, one a byte, to (element·2^(b-127))·d.
void dual_dequantize(const uint8_t* codes, const uint8_t* scales, const float* outer, float* out,
                     size_t n, Cpu cpu = cpu_in_use());

/// For products: a row quantized and decoded again under its outer scales: values
/// element·2^(b-127), and n/512 scales.
void dual_round(DualDtype dtype, const float* x, float* values, float* outer, size_t n,
                Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
