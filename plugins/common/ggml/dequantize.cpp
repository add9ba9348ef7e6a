#include "common/ggml/dequantize.hpp"

#include "common/codecs/half.hpp"
#include "common/ggml/kernels.hpp"
#include "common/ggml/scalar.hpp"

namespace loadstone::ggml {
namespace {

template <void (*kDecode)(const uint8_t*, float*), uint32_t kElems, uint32_t kNbytes>
void run(const uint8_t* from, uint64_t blocks, float* to) {
  for (uint64_t i = 0; i < blocks; ++i, from += kNbytes, to += kElems) kDecode(from, to);
}

/// float16 and bfloat16 rows at the level in use; a tensor's data is aligned to its element.
void f16_row(const uint8_t* from, uint64_t count, float* to) {
  common::f16_decode(reinterpret_cast<const uint16_t*>(from), to, count);
}
void bf16_row(const uint8_t* from, uint64_t count, float* to) {
  common::bf16_decode(reinterpret_cast<const uint16_t*>(from), to, count);
}

struct Entry {
  Type type;
  Dequantize decode;
};

constexpr Entry kScalar[] = {
    {kF32, run<scalar::f32, 1, 4>},
    {kF16, f16_row},
    {kBF16, bf16_row},
    {kQ4_0, run<scalar::q4_0, 32, 18>},
    {kQ4_1, run<scalar::q4_1, 32, 20>},
    {kQ5_0, run<scalar::q5_0, 32, 22>},
    {kQ5_1, run<scalar::q5_1, 32, 24>},
    {kQ8_0, run<scalar::q8_0, 32, 34>},
    {kQ2_K, run<scalar::q2_k, 256, 84>},
    {kQ3_K, run<scalar::q3_k, 256, 110>},
    {kQ4_K, run<scalar::q4_k, 256, 144>},
    {kQ5_K, run<scalar::q5_k, 256, 176>},
    {kQ6_K, run<scalar::q6_k, 256, 210>},
    {kIQ2_XXS, run<scalar::iq2_xxs, 256, 66>},
    {kIQ2_XS, run<scalar::iq2_xs, 256, 74>},
    {kIQ2_S, run<scalar::iq2_s, 256, 82>},
    {kIQ3_XXS, run<scalar::iq3_xxs, 256, 98>},
    {kIQ3_S, run<scalar::iq3_s, 256, 110>},
    {kIQ1_S, run<scalar::iq1_s, 256, 50>},
    {kIQ1_M, run<scalar::iq1_m, 256, 56>},
    {kIQ4_NL, run<scalar::iq4_nl, 32, 18>},
    {kIQ4_XS, run<scalar::iq4_xs, 256, 136>},
    {kTQ1_0, run<scalar::tq1_0, 256, 54>},
    {kTQ2_0, run<scalar::tq2_0, 256, 66>},
    {kMXFP4, run<scalar::mxfp4, 32, 17>},
    {kNVFP4, run<scalar::nvfp4, 64, 36>},
};

Dequantize scalar_dequantizer(Type type) {
  for (const Entry& entry : kScalar) {
    if (entry.type == type) return entry.decode;
  }
  return nullptr;
}

}  // namespace

Dequantize dequantizer(Type type, Stores stores, common::Cpu cpu) {
  Dequantize fast = nullptr;
#if defined(__x86_64__)
  if (cpu == common::Cpu::avx512) fast = avx512::dequantizer(type, stores);
  if (cpu == common::Cpu::avx2) fast = avx2::dequantizer(type, stores);
#endif
  return fast != nullptr ? fast : scalar_dequantizer(type);
}

}  // namespace loadstone::ggml
