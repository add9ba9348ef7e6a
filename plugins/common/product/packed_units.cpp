// The units: AMX tiles, and AVX-512 dot products of integers. (Those of bf16 lost to the host's
// float32 product: 0.51 to 0.85 of LibTorch's at M = 1024.)
#include <cstring>

#include "common/cpu.hpp"
#include "common/product/packed.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace loadstone::common::packed {
namespace {

constexpr uint64_t kBlockNbytes = 1024;
constexpr uint64_t kHalf = 16;  // rows of W in one accumulator

#define LOADSTONE_TILE_PRODUCT(name, isa, instruction)                                   \
  __attribute__((target(isa))) void name(const char* a, uint64_t stride, const char* b0, \
                                         const char* b1, uint64_t begin, uint64_t end,   \
                                         void* acc) {                                    \
    _tile_zero(0);                                                                       \
    _tile_zero(1);                                                                       \
    _tile_zero(2);                                                                       \
    _tile_zero(3);                                                                       \
    for (uint64_t step = begin; step < end; ++step) {                                    \
      _tile_loadd(4, a + step * 64, stride);                                             \
      _tile_loadd(5, a + kHalf * stride + step * 64, stride);                            \
      _tile_loadd(6, b0 + step * kBlockNbytes, 64);                                      \
      _tile_loadd(7, b1 + step * kBlockNbytes, 64);                                      \
      instruction(0, 4, 6);                                                              \
      instruction(1, 4, 7);                                                              \
      instruction(2, 5, 6);                                                              \
      instruction(3, 5, 7);                                                              \
    }                                                                                    \
    auto* out = static_cast<char*>(acc);                                                 \
    _tile_stored(0, out, 64);                                                            \
    _tile_stored(1, out + kBlockNbytes, 64);                                             \
    _tile_stored(2, out + 2 * kBlockNbytes, 64);                                         \
    _tile_stored(3, out + 3 * kBlockNbytes, 64);                                         \
  }

LOADSTONE_TILE_PRODUCT(multiply_amx_bf16, "amx-tile,amx-bf16", _tile_dpbf16ps)
LOADSTONE_TILE_PRODUCT(multiply_amx_int8, "amx-tile,amx-int8", _tile_dpbssd)

inline int32_t load_dword(const char* at) {
  int32_t out;
  std::memcpy(&out, at, sizeof out);
  return out;
}

// vpdpbusd multiplies unsigned by signed bytes: the packed activation is offset by 128, and
// 128·Σw, summed along, is taken off at the end. Both sums are exact.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) void multiply_vnni_int8(
    const char* a, uint64_t stride, const char* b0, const char* b1, uint64_t begin, uint64_t end,
    void* acc) {
  const __m512i offset = _mm512_set1_epi8(static_cast<char>(-128));  // 128, unsigned
  for (uint64_t tile = 0; tile < 4; ++tile) {
    const char* rows = a + (tile / 2) * kHalf * stride;
    const char* b = tile % 2 == 0 ? b0 : b1;
    __m512i sum[kHalf];
    for (auto& one : sum) one = _mm512_setzero_si512();
    for (uint64_t at = begin * 64; at < end * 64; at += 4) {
      const __m512i x = _mm512_loadu_si512(b + at * 16);
      for (uint64_t i = 0; i < kHalf; ++i) {
        const __m512i w = _mm512_set1_epi32(load_dword(rows + i * stride + at));
        sum[i] = _mm512_dpbusd_epi32(sum[i], x, w);
      }
    }
    auto* out = static_cast<int32_t*>(acc) + tile * 256;
    for (uint64_t i = 0; i < kHalf; ++i) {
      __m512i weights = _mm512_setzero_si512();
      for (uint64_t step = begin; step < end; ++step) {
        const __m512i w = _mm512_loadu_si512(rows + i * stride + step * 64);
        weights = _mm512_dpbusd_epi32(weights, offset, w);
      }
      const __m512i off = _mm512_set1_epi32(_mm512_reduce_add_epi32(weights));
      _mm512_storeu_si512(out + 16 * i, _mm512_sub_epi32(sum[i], off));
    }
  }
}

constexpr Unit kAmxBf16{"amx_bf16", 2, true, false, multiply_amx_bf16};
constexpr Unit kAmxInt8{"amx_int8", 1, true, false, multiply_amx_int8};
constexpr Unit kVnniInt8{"avx512_vnni", 1, false, true, multiply_vnni_int8};

/// Bits of CPUID leaf 7, EDX: AMX-BF16 22, AMX-TILE 24, AMX-INT8 25.
bool has_amx(int bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if (((d >> 24) & 1u) == 0 || ((d >> bit) & 1u) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<const Unit*> find_bf16() {
  std::vector<const Unit*> out;
  if (cpu_in_use() != Cpu::avx512) return out;
  if (cpu_choice().tiles && has_amx(22)) out.push_back(&kAmxBf16);
  return out;
}

std::vector<const Unit*> find_int8() {
  std::vector<const Unit*> out;
  if (cpu_in_use() != Cpu::avx512) return out;
  if (cpu_choice().tiles && has_amx(25)) out.push_back(&kAmxInt8);
  if (__builtin_cpu_supports("avx512vnni")) out.push_back(&kVnniInt8);
  return out;
}

}  // namespace

const std::vector<const Unit*>& bf16_units() {
  static const std::vector<const Unit*> units = find_bf16();
  return units;
}
const std::vector<const Unit*>& int8_units() {
  static const std::vector<const Unit*> units = find_int8();
  return units;
}

}  // namespace loadstone::common::packed

#else

namespace loadstone::common::packed {

const std::vector<const Unit*>& bf16_units() {
  static const std::vector<const Unit*> none;
  return none;
}
const std::vector<const Unit*>& int8_units() { return bf16_units(); }

}  // namespace loadstone::common::packed

#endif
