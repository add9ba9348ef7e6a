#include "common/cpu.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <cstring>

namespace loadstone::common {
namespace {

struct NamedLevel {
  const char* name;
  Cpu cpu;
  bool tiles = true;
};
constexpr NamedLevel kLevels[] = {{"scalar", Cpu::scalar},
                                  {"avx2", Cpu::avx2},
                                  {"avx512", Cpu::avx512},
                                  {"avx512vnni", Cpu::avx512, false}};

#if defined(__x86_64__)
/// Leaf 1, ECX bit 29; clang 14's __builtin_cpu_supports doesn't know the name.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1u) != 0;
}
#endif

}  // namespace

Cpu best_cpu() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (!avx2) return Cpu::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? Cpu::avx512 : Cpu::avx2;
#else
  return Cpu::scalar;
#endif
}

bool has_vnni() {
#if defined(__x86_64__)
  return best_cpu() == Cpu::avx512 && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

CpuChoice choose_cpu(const char* forced, Cpu best, bool vnni) {
  if (forced == nullptr) return {best, true, ""};
  for (const NamedLevel& level : kLevels) {
    if (std::strcmp(level.name, forced) != 0) continue;
    if (level.cpu <= best && (level.tiles || vnni)) return {level.cpu, level.tiles, ""};
    return {Cpu::scalar, true,
            std::string("instruction set not available: LOADSTONE_CPU: found \"") + level.name +
                "\", expected at most \"" + kLevels[static_cast<int>(best)].name +
                "\" on this machine"};
  }
  std::string shown;
  for (const char* c = forced; *c != '\0' && shown.size() < 40; ++c) {
    shown += (*c >= ' ' && *c <= '~' && *c != '"') ? *c : '?';
  }
  return {Cpu::scalar, true,
          "unknown instruction set: LOADSTONE_CPU: found \"" + shown +
              "\", expected scalar, avx2, avx512 or avx512vnni"};
}

const CpuChoice& cpu_choice() {
  static const CpuChoice choice = choose_cpu(std::getenv("LOADSTONE_CPU"), best_cpu(), has_vnni());
  return choice;
}

bool cpu_accepted(const ls_host* host) {
  if (cpu_choice().error.empty()) return true;
  if (host != nullptr && host->fail != nullptr)
    host->fail(LS_UNSUPPORTED, cpu_choice().error.c_str());
  return false;
}

}  // namespace loadstone::common
