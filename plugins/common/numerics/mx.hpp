// MX formats: groups of 32 along K with a power-of-two scale (an E8M0 byte), elements e4m3 or e2m1.
// A last group may be shorter. Defined for every finite input.
// Source: numeric-definitions, section 4 (OCP microscaling). Oracles: numerics.json (mx_*), layers.
//
// Scale byte b of a group, a its largest magnitude, E and mant its exponent field and fraction:
//   ocp    max(E(a) - emax, 0), emax = 8 (e4m3), 2 (e2m1)
//   uos    p = a·fl(1/7.25); E(p) + (0 < E(p) < 254 and mant(p) > 0); 0 for a = 0       (e2m1)
//   rceil  s = a/448; E(s) + (mant(s) > 0); subnormal s: 1 if mant > 2^22, else 0; at most 254
//   255 (NaN) for a group that isn't finite
// Codes: element(x·2^(127-b)), the product exact, saturating, nearest even, the sign of zero kept.
// Value: element·2^(b-127).
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

inline constexpr size_t kMxGroup = 32;
constexpr size_t mx_groups(size_t n) { return (n + kMxGroup - 1) / kMxGroup; }

enum class MxRule { ocp, uos, rceil };
enum class MxElement { e4m3, e2m1 };

uint8_t mx_scale_byte(MxRule rule, MxElement element, float amax);

/// n values to n codes, one a byte, and mx_groups(n) scale bytes.
void mx_quantize(MxRule rule, MxElement element, const float* x, uint8_t* codes, uint8_t* scales,
                 size_t n, Cpu cpu = cpu_in_use());

/// n codes, one a byte, to values element·2^(b-127): exact but for underflow.
void mx_dequantize(MxElement element, const uint8_t* codes, const uint8_t* scales, float* out,
                   size_t n, Cpu cpu = cpu_in_use());

/// For products: n codes, one a byte, to bf16 bits of element·2^(b-top), exact for what isn't under
/// 2^-126. `top` is the row's largest scale byte (mx_top); the row's scale is 2^(top-127).
void mx_decode_bf16(MxElement element, const uint8_t* codes, const uint8_t* scales, uint8_t top,
                    uint16_t* out, size_t n, Cpu cpu = cpu_in_use());

/// 2^(b-top) of n scale bytes, as mx_decode_bf16 applies them.
void mx_relative_scales(const uint8_t* scales, uint8_t top, float* out, size_t n,
                        Cpu cpu = cpu_in_use());

/// For products: a row quantized and decoded again, over its largest scale: values
/// element·2^(b-top), the row's scale 2^(top-127) returned. Groups that aren't finite become NaN.
float mx_round(MxRule rule, MxElement element, const float* x, float* values, size_t n,
               Cpu cpu = cpu_in_use());

/// The largest of n scale bytes but 255; 0 for n = 0.
uint8_t mx_top(const uint8_t* scales, size_t n);

}  // namespace loadstone::common
