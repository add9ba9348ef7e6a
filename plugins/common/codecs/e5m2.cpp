#include "common/codecs/e5m2.hpp"

namespace loadstone::common {
namespace {

LOADSTONE_INLINE void encode_body(const float* __restrict in, uint8_t* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e5m2_encode(in[i]);
}
LOADSTONE_INLINE void decode_body(const uint8_t* __restrict in, float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e5m2_decode(in[i]);
}
LOADSTONE_INLINE void decode_bf16_body(const uint8_t* __restrict in, uint16_t* __restrict out,
                                       size_t n) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(e5m2_decode(in[i])) >> 16);
  }
}

LOADSTONE_KERNEL(encode, (const float* in, uint8_t* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(decode, (const uint8_t* in, float* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(decode_bf16, (const uint8_t* in, uint16_t* out, size_t n), (in, out, n))

}  // namespace

void e5m2_encode(const float* in, uint8_t* out, size_t n, Cpu cpu) { encode_for(cpu)(in, out, n); }
void e5m2_decode(const uint8_t* in, float* out, size_t n, Cpu cpu) { decode_for(cpu)(in, out, n); }
void e5m2_decode_bf16(const uint8_t* in, uint16_t* out, size_t n, Cpu cpu) {
  decode_bf16_for(cpu)(in, out, n);
}

}  // namespace loadstone::common
