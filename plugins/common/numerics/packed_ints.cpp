#include "common/numerics/packed_ints.hpp"

#include "common/int_packs/stream.hpp"
#include "common/kernel.hpp"

namespace loadstone::common {
namespace {

/// 2, 4 and 8 bits: whole values in every byte.
template <uint32_t Bits>
LOADSTONE_INLINE void widen_bytes(const uint8_t* __restrict bytes, float* __restrict out,
                                  size_t n) {
  constexpr size_t kEach = 8 / Bits;
  for (size_t i = 0; i < n / kEach; ++i) {
    for (size_t j = 0; j < kEach; ++j) {
      const int32_t value = bytes[i] >> (j * Bits) & ((1 << Bits) - 1);
      out[i * kEach + j] = static_cast<float>(value);
    }
  }
  for (size_t i = n / kEach * kEach; i < n; ++i) {
    const int32_t value = bytes[i / kEach] >> (i % kEach * Bits) & ((1 << Bits) - 1);
    out[i] = static_cast<float>(value);
  }
}

LOADSTONE_INLINE void widen2_body(const uint8_t* bytes, float* out, size_t n) {
  widen_bytes<2>(bytes, out, n);
}
LOADSTONE_INLINE void widen4_body(const uint8_t* bytes, float* out, size_t n) {
  widen_bytes<4>(bytes, out, n);
}
LOADSTONE_INLINE void widen8_body(const uint8_t* bytes, float* out, size_t n) {
  widen_bytes<8>(bytes, out, n);
}
LOADSTONE_INLINE void scale_body(float* __restrict out, float zero, float scale, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = (out[i] - zero) * scale;
}

LOADSTONE_KERNEL(widen2, (const uint8_t* bytes, float* out, size_t n), (bytes, out, n))
LOADSTONE_KERNEL(widen4, (const uint8_t* bytes, float* out, size_t n), (bytes, out, n))
LOADSTONE_KERNEL(widen8, (const uint8_t* bytes, float* out, size_t n), (bytes, out, n))
LOADSTONE_KERNEL(scale, (float* out, float z, float s, size_t n), (out, z, s, n))

}  // namespace

void packed_ints_widen(const uint32_t* words, uint32_t bits, float* out, size_t n, Cpu cpu) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(words);
  switch (bits) {
    case 2:
      return widen2_for(cpu)(bytes, out, n);
    case 4:
      return widen4_for(cpu)(bytes, out, n);
    case 8:
      return widen8_for(cpu)(bytes, out, n);
    default:
      for (size_t i = 0; i < n; ++i) {
        out[i] = static_cast<float>(int_packs::stream_value(words, 1, i, bits));
      }
  }
}

uint32_t packed_int_at(const uint32_t* words, uint64_t stride, uint64_t index, uint32_t bits) {
  return int_packs::stream_value(words, stride, index, bits);
}

void packed_ints_scale(float* out, float zero, float scale, size_t n, Cpu cpu) {
  scale_for(cpu)(out, zero, scale, n);
}

}  // namespace loadstone::common
