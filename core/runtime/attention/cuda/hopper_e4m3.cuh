// Hopper's e4m3 products as attention uses them. PTX ISA 8.0, sm_90a only. Private to kernels.
#pragma once

#include <cstdint>

#include "device/hopper.cuh"

namespace loadstone::runtime::fp8_attention::cuda {

/// Four values as codes, the first in the lowest byte.
__device__ inline uint32_t four_codes(float a, float b, float c, float d) {
  uint16_t low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
  return uint32_t{high} << 16 | low;
}
/// 2^x within 2 ulp; what is subnormal is 0.
__device__ inline float exp2_of(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

/// d (64, 64) = a (64, 32)·bᵀ (64, 32) + d (without d where `adds` is 0), a in registers: rows
/// lane/4 and 8 below, columns 4·(lane%4) …, then both rows 16 columns on.
__device__ inline void product_values_low(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                                          int adds) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, p, 1, 1;\n}"
      : LOADSTONE_SIXTEEN("+f", d, 0), LOADSTONE_SIXTEEN("+f", d, 16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds));
}
/// The same with b (72, 32).
__device__ inline void product_values_high(float (&d)[36], const uint32_t (&a)[4], uint64_t b,
                                           int adds) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %41, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n72k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35"
      "}, {%36, %37, %38, %39}, %40, p, 1, 1;\n}"
      : LOADSTONE_SIXTEEN("+f", d, 0), LOADSTONE_SIXTEEN("+f", d, 16), LOADSTONE_FOUR("+f", d, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds));
}

}  // namespace loadstone::runtime::fp8_attention::cuda
