// One body, three instruction sets. A kernel is an always-inlined loop over scalar definitions; the
// macro compiles it for each level by function attributes (never by flags on a file), so that all
// levels compute the same bits: the project builds with -ffp-contract=off and nothing here
// reorders floating-point sums.
#pragma once

#include "common/cpu.hpp"

#define LOADSTONE_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define LOADSTONE_TARGET_AVX2 __attribute__((target("avx2,f16c,bmi2")))
#define LOADSTONE_TARGET_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c,bmi2")))
#else
#define LOADSTONE_TARGET_AVX2
#define LOADSTONE_TARGET_AVX512
#endif

namespace loadstone::common {

/// Asks for what a decoder reads soon: its own work fills the window that would run ahead. Past the
/// end of a row lies the next one, and past the end of memory nothing happens.
LOADSTONE_INLINE void read_ahead(const void* at) {
  constexpr int kAhead = 2048;
  __builtin_prefetch(static_cast<const char*>(at) + kAhead);
}

}  // namespace loadstone::common

/// LOADSTONE_KERNEL(f, (int a, int b), (a, b)) makes f_on(cpu, a, b) from `void f_body(int, int)`.
#define LOADSTONE_KERNEL(name, params, args)                                                    \
  static void name##_scalar params { name##_body args; }                                        \
  LOADSTONE_TARGET_AVX2 static void name##_avx2 params { name##_body args; }                    \
  LOADSTONE_TARGET_AVX512 static void name##_avx512 params { name##_body args; }                \
  static auto name##_for(::loadstone::common::Cpu cpu) {                                        \
    using ::loadstone::common::Cpu;                                                             \
    return cpu == Cpu::avx512 ? name##_avx512 : cpu == Cpu::avx2 ? name##_avx2 : name##_scalar; \
  }
