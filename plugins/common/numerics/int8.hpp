// INT8 quantization of weight rows and activation tokens, symmetric.
// Source: numeric-definitions, section 3. Oracles: numerics.json (scales, rows), layers (int8).
//   s = a/127;  codes = saturate(rne(x·(127/a)));  a = 0: s = 0, codes 0. No minimum scale.
// The factor is 127/a, not 1/s: they differ in the last bit.
// Activations that aren't finite have scale NaN: every product with them is NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

float int8_scale(float amax);
/// 127/amax, 0 for amax = 0.
float int8_factor(float amax);

/// One row of n values, weights or activations; returns its scale (NaN for values that aren't
/// finite, whose codes mean nothing).
float int8_quantize_row(const float* x, int8_t* codes, size_t n, Cpu cpu = cpu_in_use());

/// The same with 4 bits: s = a/7, codes saturate(rne(x·(7/a))) in [-8, 7].
/// Source: numeric-definitions, section 9 (W4A4_DYNAMIC); the factor is taken as int8's is.
float int4_quantize_row(const float* x, int8_t* codes, size_t n, Cpu cpu = cpu_in_use());

/// saturate(rne(x/scale + zero_point)): a given scale, by division; the float32 sum is rounded, so
/// an odd zero point turns the parity of ties.
void int8_quantize_fixed(const float* x, float scale, float zero_point, int8_t* codes, size_t n,
                         Cpu cpu = cpu_in_use());

/// saturate(rne(x·factor + offset)): a given scale as its reciprocal, three roundings.
/// Source: numeric-definitions, section 9 (W8A8).
void int8_quantize_affine(const float* x, float factor, float offset, int8_t* codes, size_t n,
                          Cpu cpu = cpu_in_use());

/// out = code·scale, one product an element.
void int8_dequantize(const int8_t* codes, float scale, float* out, size_t n,
                     Cpu cpu = cpu_in_use());

}  // namespace loadstone::common
