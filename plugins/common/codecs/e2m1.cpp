#include "common/codecs/e2m1.hpp"

namespace loadstone::common {
namespace {

LOADSTONE_INLINE void encode_body(const float* __restrict in, uint8_t* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e2m1_encode(in[i]);
}
LOADSTONE_INLINE void decode_body(const uint8_t* __restrict in, float* __restrict out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = e2m1_decode(in[i]);
}
LOADSTONE_INLINE void pack_body(const uint8_t* __restrict codes, uint8_t* __restrict packed,
                                size_t n) {
  for (size_t i = 0; i < n / 2; ++i) {
    packed[i] = static_cast<uint8_t>((codes[2 * i] & 15u) | codes[2 * i + 1] << 4);
  }
}
LOADSTONE_INLINE void unpack_body(const uint8_t* __restrict packed, uint8_t* __restrict codes,
                                  size_t n) {
  for (size_t i = 0; i < n / 2; ++i) {
    codes[2 * i] = packed[i] & 15u;
    codes[2 * i + 1] = static_cast<uint8_t>(packed[i] >> 4);
  }
}
LOADSTONE_INLINE void decode_packed_body(const uint8_t* __restrict packed, float* __restrict out,
                                         size_t n) {
  for (size_t i = 0; i < n / 2; ++i) {
    out[2 * i] = e2m1_decode(packed[i] & 15u);
    out[2 * i + 1] = e2m1_decode(static_cast<uint8_t>(packed[i] >> 4));
  }
}

LOADSTONE_KERNEL(encode, (const float* in, uint8_t* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(decode, (const uint8_t* in, float* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(pack, (const uint8_t* in, uint8_t* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(unpack, (const uint8_t* in, uint8_t* out, size_t n), (in, out, n))
LOADSTONE_KERNEL(decode_packed, (const uint8_t* in, float* out, size_t n), (in, out, n))

}  // namespace

void e2m1_encode(const float* in, uint8_t* out, size_t n, Cpu cpu) { encode_for(cpu)(in, out, n); }
void e2m1_decode(const uint8_t* in, float* out, size_t n, Cpu cpu) { decode_for(cpu)(in, out, n); }
void e2m1_pack(const uint8_t* codes, uint8_t* packed, size_t n, Cpu cpu) {
  pack_for(cpu)(codes, packed, n);
}
void e2m1_unpack(const uint8_t* packed, uint8_t* codes, size_t n, Cpu cpu) {
  unpack_for(cpu)(packed, codes, n);
}
void e2m1_decode_packed(const uint8_t* packed, float* out, size_t n, Cpu cpu) {
  decode_packed_for(cpu)(packed, out, n);
}

}  // namespace loadstone::common
