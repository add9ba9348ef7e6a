// Which instruction set the kernels of plugins/common use: the best that the machine has, or the
// one that LOADSTONE_CPU=scalar|avx2|avx512|avx512vnni names. Every level computes the same bits.
// Beside the kernels, products of matrices use the dot products (VNNI) and the AMX tiles that a
// machine with AVX-512 has; avx512vnni is avx512 without the tiles, on a machine with VNNI.
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
  bool tiles = true;  // AMX may be used where there is some
  std::string error;  // "" when fine
};

/// The process's choice, made once.
const CpuChoice& cpu_choice();

/// The rule behind it: `forced` is LOADSTONE_CPU's value or null, `best` and `vnni` what the
/// machine has.
CpuChoice choose_cpu(const char* forced, Cpu best, bool vnni);

/// The best level of this machine, and whether it has AVX-512 VNNI besides.
Cpu best_cpu();
bool has_vnni();

inline Cpu cpu_in_use() { return cpu_choice().cpu; }

/// For loadstone_plugin_query: false, with the host told why, when there is no choice.
bool cpu_accepted(const ls_host* host);

}  // namespace loadstone::common
