// Which instruction set the kernels of plugins/common use: the best that the machine has, or the
// one that LOADSTONE_CPU=scalar|avx2|avx512 names. Every level computes the same bits.
#pragma once

#include <loadstone/plugin.h>

#include <string>

namespace loadstone::common {

enum class Cpu {
  scalar,  // the definition; whatever the compiler's baseline has
  avx2,    // AVX2, FMA and F16C
  avx512,  // AVX-512 F, BW, DQ and VL besides
};

/// The level in use, or why there is none: LOADSTONE_CPU names an unknown level or one that this
/// machine lacks. A plugin refuses its host with that text (loadstone_plugin_query returns null).
struct CpuChoice {
  Cpu cpu = Cpu::scalar;
  std::string error;  // "" when fine
};

/// The process's choice, made once.
const CpuChoice& cpu_choice();

/// The rule behind it: `forced` is LOADSTONE_CPU's value or null, `best` what the machine has.
CpuChoice choose_cpu(const char* forced, Cpu best);

/// The best level of this machine.
Cpu best_cpu();

inline Cpu cpu_in_use() { return cpu_choice().cpu; }

/// For loadstone_plugin_query: false, with the host told why, when there is no choice.
bool cpu_accepted(const ls_host* host);

}  // namespace loadstone::common
