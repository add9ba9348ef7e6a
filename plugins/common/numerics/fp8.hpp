// FP8 (e4m3fn) quantization of weights and activations, W8A8.
// Source: numeric-definitions, section 2 (which divides by the scale where, and which multiplies by
// its reciprocal: they differ in the last bit and flip codes on ties). Oracles: numerics.json
// (scales, rows), layers.safetensors (fp8_*).
//
// Scales (a: largest magnitude, float32 arithmetic):
//   tensor      a/448, 1 for a = 0           codes of x·(1/s); all 0 for a = 0
//   row, token  max(a/448, 1/(448·512))      codes of x/s; a token's a is cut at an upper bound
//   first block       max(a, 1e-4)/448             codes of x·(1/s) group       max(a, 1e-10)/448
//   codes of x/s (128 activations of the block method) fixed       given codes of x·(1/s)
// Activations that aren't finite: the scale of their row (tensor, group) is NaN and so is every
// product with it; never a silent number.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

inline constexpr float kFp8Max = 448.0f;
inline constexpr float kFp8MinScale = 1.0f / (448.0f * 512.0f);  // 0x36924925
inline constexpr size_t kFp8Group = 128;

float fp8_tensor_scale(float amax);
float fp8_row_scale(float amax);
float fp8_block_scale(float amax);
float fp8_group_scale(float amax);
/// `upper_bound` null: none.
float fp8_token_scale(float amax, const float* upper_bound);

// ---- weights: finite values in, codes out ----

/// One row of n values; returns its scale.
float fp8_quantize_row(const float* w, uint8_t* codes, size_t n, Cpu cpu = cpu_in_use());
/// n values of a tensor whose scale is `scale` (fp8_tensor_scale of the whole tensor's amax).
void fp8_quantize_tensor(const float* w, float scale, float amax, uint8_t* codes, size_t n,
                         Cpu cpu = cpu_in_use());
/// One block of rows × columns values, dense; its codes go `stride` bytes a row. Returns its scale.
float fp8_quantize_block(const float* w, size_t rows, size_t columns, uint8_t* codes, size_t stride,
                         Cpu cpu = cpu_in_use());
/// out = value(code)·scale, one product an element.
void fp8_dequantize(const uint8_t* codes, float scale, float* out, size_t n,
                    Cpu cpu = cpu_in_use());

// ---- activations: values on the e4m3 grid out (what a product multiplies; e4m3_encode of a value
// is its code), scale returned ----

float fp8_token(const float* x, const float* upper_bound, float* values, size_t n,
                Cpu cpu = cpu_in_use());
/// A row of a tensor whose largest magnitude is `amax`; the returned scale is the tensor's.
float fp8_tensor_row(const float* x, float amax, float* values, size_t n, Cpu cpu = cpu_in_use());
/// A row with a given scale. Returns `scale`, or NaN for a row that isn't finite.
float fp8_fixed_row(const float* x, float scale, float* values, size_t n, Cpu cpu = cpu_in_use());
/// A row in groups of `group` values, the last one maybe shorter: ceil(n / group) scales.
void fp8_groups(const float* x, size_t group, float* values, float* scales, size_t n,
                Cpu cpu = cpu_in_use());

// ---- a common scale for parts that have their own ----

/// Codes of one part, dequantized to float16 (one rounding) and requantized with `common` by the
/// reciprocal: what a kernel with one scale per weight needs of fused parts. In place is fine.
/// `scale` is the part's, `common` the largest of all parts'.
void fp8_rescale(const uint8_t* codes, float scale, float common, uint8_t* out, size_t n);

}  // namespace loadstone::common
