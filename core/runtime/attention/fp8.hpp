// Attention with e4m3 operands: the arithmetic of README.md beside this, for one head, on the host.
// The bodies are one scalar definition compiled for three instruction sets; all give equal bits.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cpu.hpp"

namespace loadstone::runtime::fp8_attention {

using common::Cpu;
using common::cpu_in_use;

inline constexpr int64_t kKeyBlock = 128;  // keys that share a scale and a running maximum
inline constexpr int64_t kMaxDim = 128;
inline constexpr float kMinScale = 1.0f / (448.0f * 512.0f);
inline constexpr float kPeakLog2 = 8;  // the largest weight of a row is in (2^7, 2^8]

inline int64_t key_blocks(int64_t keys) { return (keys + kKeyBlock - 1) / kKeyBlock; }

/// Whether heads of this size can be rotated: a power of two from 16 to kMaxDim.
inline bool takes_head(int64_t dim) {
  return dim >= 16 && dim <= kMaxDim && (dim & (dim - 1)) == 0;
}

/// The rotation's signs, ±1 [dim].
std::vector<float> rotation_signs(int64_t dim);

/// A matrix [rows, dim] with its row stride in elements.
struct Rows {
  const float* at;
  int64_t rows, dim, stride;
};

/// x·R quantized: values on the e4m3 grid [rows, dim], a scale a row.
void prepare_q(const Rows& q, const std::vector<float>& signs, float* values, float* scales,
               Cpu cpu = cpu_in_use());
/// (k - mean)·R quantized: values [rows, dim], a scale a block of kKeyBlock rows.
void prepare_k(const Rows& k, const std::vector<float>& signs, float* values, float* scales,
               Cpu cpu = cpu_in_use());
/// Values [rows, dim], a scale a channel [dim].
void prepare_v(const Rows& v, float* values, float* scales, Cpu cpu = cpu_in_use());

/// One row of products q̂·k̂ᵀ [keys] becomes its weights, each block's relative to the row's last
/// maximum; returns their sum. `scale` is the row's scale times the attention's times log2(e).
float weigh(float* row, int64_t keys, float scale, const float* key_scales, Cpu cpu = cpu_in_use());

}  // namespace loadstone::runtime::fp8_attention
