#include "common/codecs/e4m3.hpp"

#include "common/codecs/bf16_words.hpp"

namespace loadstone::common {
namespace {

LOADSTONE_INLINE void encode_body(const float* __restrict in, uint8_t* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e4m3_encode(in[i]);
}
LOADSTONE_INLINE void decode_body(const uint8_t* __restrict in, float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e4m3_decode(in[i]);
}
LOADSTONE_INLINE void round_body(const float* __restrict in, float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e4m3_round(in[i]);
}
void decode_bf16_scalar(const uint8_t* __restrict in, uint16_t* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(e4m3_decode(in[i])) >> 16);
  }
}

LOADSTONE_KERNEL(encode, (const float* in, uint8_t* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(decode, (const uint8_t* in, float* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(round, (const float* in, float* out, size_t n), (in, out, n))

#if defined(__x86_64__)
LOADSTONE_TARGET_AVX2 void decode_bf16_words(const uint8_t* in, uint16_t* out, size_t n) {
  size_t i = 0;
  for (; i + 32 <= n; i += 32) store(e4m3_words(in + i), out + i);
  decode_bf16_scalar(in + i, out + i, n - i);
}
#endif

}  // namespace

void e4m3_encode(const float* in, uint8_t* out, size_t n, Cpu cpu) { encode_for(cpu)(in, out, n); }
void e4m3_decode(const uint8_t* in, float* out, size_t n, Cpu cpu) { decode_for(cpu)(in, out, n); }
void e4m3_round(const float* in, float* out, size_t n, Cpu cpu) { round_for(cpu)(in, out, n); }
void e4m3_decode_bf16(const uint8_t* in, uint16_t* out, size_t n, Cpu cpu) {
#if defined(__x86_64__)
  if (cpu != Cpu::scalar) return decode_bf16_words(in, out, n);
#endif
  decode_bf16_scalar(in, out, n);
}

}  // namespace loadstone::common
