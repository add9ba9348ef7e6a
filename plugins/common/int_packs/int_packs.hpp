// Integer weights packed into 32-bit words, as GPTQ, AWQ and AutoRound write them:
//   w[n][k] = scale[g][n] · (q[k][n] - zero[g][n]),  g = g_idx[k], or k / group_size
// float32, one product: exact for float16 scales (11 bits times 9).
//
//   packing  qweight                                     qzeros            scales
//   gptq     (K·bits/32, N): along K, column by column   (G, N·bits/32)    (G, N)
//   awq      (K, N/8): along N, 4 bits                   (G, N/8)          (G, N)
//
// gptq is a dense little-endian bit stream: value i takes bits [i·bits, (i+1)·bits) of the words of
// its column (zeros: of its row), 32 values fill `bits` words, and 3, 5, 6 and 7 bits straddle
// words. awq: nibble p of word c holds column 8c + {0,2,4,6,1,3,5,7}[p].
// Source: numeric-definitions, section 8; oracle: layers.json (ar_*, gptq_*).
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>

#include "common/cpu.hpp"

namespace loadstone::int_packs {

enum class Packing : uint8_t { gptq, awq };

/// One matrix. N and K are multiples of 32; `bits` 2 to 8 (awq: 4); `scale_dtype` LS_DTYPE_F16,
/// BF16 or F32; `group_size` positive, groups = ceil(K / group_size). With `g_idx` (K entries, each
/// in [0, groups), checked by the caller) group_size is not used. `zero_bias` is added to stored
/// zeros: 1 where the file holds them less one, else 0. Pointers are aligned to their element.
struct Matrix {
  Packing packing = Packing::gptq;
  uint32_t bits = 4;
  uint32_t zero_bias = 0;
  uint32_t scale_dtype = LS_DTYPE_F16;
  uint64_t n = 0, k = 0;
  uint64_t groups = 1, group_size = 0;
  const uint32_t* qweight = nullptr;
  const uint32_t* qzeros = nullptr;
  const void* scales = nullptr;
  const int32_t* g_idx = nullptr;

  uint64_t group_of(uint64_t column) const {
    return g_idx != nullptr ? static_cast<uint64_t>(g_idx[column]) : column / group_size;
  }
};

/// Code q of input column `k` and output row `n`; the zero point of a group, bias added; its scale.
uint32_t code_at(const Matrix& matrix, uint64_t k, uint64_t n);
uint32_t zero_at(const Matrix& matrix, uint64_t group, uint64_t n);
float scale_at(const Matrix& matrix, uint64_t group, uint64_t n);

/// Rows [begin, begin+count) of the weight, K floats each. Every level gives the same bits.
void dequantize(const Matrix& matrix, uint64_t begin, uint64_t count, float* out,
                common::Cpu cpu = common::cpu_in_use());

/// y[n - begin] = Σ_k x[k]·w[n][k] for rows [begin, begin+count), both multiples of 8: without
/// materializing the weight. float32 accumulation in a fixed order for each level.
void multiply(const Matrix& matrix, uint64_t begin, uint64_t count, const float* x, float* y,
              common::Cpu cpu = common::cpu_in_use());

}  // namespace loadstone::int_packs
