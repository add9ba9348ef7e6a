// NVFP4: e2m1 elements, an e4m3 scale per group along K, one float32 scale per tensor.
// Source: numeric-definitions, section 5. Oracles: numerics.json (nvfp4_own_amax), layers (nvfp4,
// ct_nvfp4_pack_quantized).
//
// Who wrote the file decides the order of the two scales, and with it the last bit:
//   multiplied      q·(sc·s2)             ModelOpt: weight_scale_2 is a multiplier
//   divided         q·(sc/global)         compressed-tensors: weight_global_scale is a divisor
//   reciprocal      (q·(1/global))·sc     AutoRound: the same divisor
// Groups have 16 columns, 32 in ModelOpt's W4A8_NVFP4_FP8; the last may be shorter.
// Activations (g: 1/input_scale, or input_global_scale), per group of 16:
//   sc = e4m3(g·(amax·fl(1/6)));  q = e2m1(x·(1/(sc·(1/g))) + 0);  value q·(sc/g)
// The + 0 makes a product of -0 the code 0; a small negative one stays the code 8.
// A group that isn't finite has the scale NaN, and so is every product with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::common {

inline constexpr size_t kNvfp4Group = 16;

enum class Nvfp4Order { multiplied, divided, reciprocal };

/// n/2 packed bytes and ceil(n/group) scale codes to n values; n even.
void nvfp4_dequantize(Nvfp4Order order, const uint8_t* packed, const uint8_t* scales, float global,
                      float* out, size_t n, size_t group = kNvfp4Group, Cpu cpu = cpu_in_use());

/// q·sc alone as bf16 bits, exact: what a product multiplies before the tensor's scale.
void nvfp4_decode_bf16(const uint8_t* packed, const uint8_t* scales, uint16_t* out, size_t n,
                       size_t group = kNvfp4Group, Cpu cpu = cpu_in_use());

/// One activation row: n codes, one a byte, and ceil(n/16) scale codes.
void nvfp4_token(const float* x, float g, uint8_t* codes, uint8_t* scales, size_t n,
                 Cpu cpu = cpu_in_use());

/// The same row as values q·sc, for products; the row's scale is 1/g.
void nvfp4_token_values(const float* x, float g, float* values, size_t n, Cpu cpu = cpu_in_use());

/// The global scale as a multiplier of q·sc.
float nvfp4_multiplier(Nvfp4Order order, float global);

}  // namespace loadstone::common
