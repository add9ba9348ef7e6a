#include "common/codecs/half.hpp"

namespace loadstone::common {
namespace {

LOADSTONE_INLINE void widen_bf16_body(const uint16_t* __restrict in, float* __restrict out,
                                      size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = bf16_decode(in[i]);
}
LOADSTONE_INLINE void narrow_bf16_body(const float* __restrict in, uint16_t* __restrict out,
                                       size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = bf16_encode(in[i]);
}
LOADSTONE_INLINE void widen_f16_body(const uint16_t* __restrict in, float* __restrict out,
                                     size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = f16_decode(in[i]);
}
LOADSTONE_INLINE void narrow_f16_body(const float* __restrict in, uint16_t* __restrict out,
                                      size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = f16_encode(in[i]);
}

LOADSTONE_KERNEL(widen_bf16, (const uint16_t* in, float* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(narrow_bf16, (const float* in, uint16_t* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(widen_f16, (const uint16_t* in, float* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(narrow_f16, (const float* in, uint16_t* out, size_t n), (in, out, n))

}  // namespace

void bf16_decode(const uint16_t* in, float* out, size_t n, Cpu cpu) {
  widen_bf16_for(cpu)(in, out, n);
}
void bf16_encode(const float* in, uint16_t* out, size_t n, Cpu cpu) {
  narrow_bf16_for(cpu)(in, out, n);
}
void f16_decode(const uint16_t* in, float* out, size_t n, Cpu cpu) {
  widen_f16_for(cpu)(in, out, n);
}
void f16_encode(const float* in, uint16_t* out, size_t n, Cpu cpu) {
  narrow_f16_for(cpu)(in, out, n);
}

}  // namespace loadstone::common
