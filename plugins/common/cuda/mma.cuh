// One product of tensor cores (sm_80). Private to kernels.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {

/// c (16, 8) += a (16, 16)·b (16, 8), T __half or __nv_bfloat16. Lane l has of a the rows l/4 and
/// l/4 + 8 (registers 0 and 2; 1 and 3), of b column l/4, of both the inner values 2·(l%4) and the
/// next, and 8 further; of c the same rows (0, 1; 2, 3) and columns 2·(l%4) and the next.
template <typename T>
__device__ inline void mma_16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

}  // namespace loadstone::common::cuda
