#include "common/numerics/floats.hpp"

#include <bit>
#include <cstring>

#include "common/codecs/half.hpp"

namespace loadstone::common {
namespace {

// Magnitude bits order like magnitudes, with infinity and then NaN on top.
LOADSTONE_INLINE void magnitude_body(const float* __restrict x, size_t n, int32_t* out) {
  int32_t top = 0;
  for (size_t i = 0; i < n; ++i) {
    const int32_t a = std::bit_cast<int32_t>(x[i]) & 0x7fffffff;
    top = a > top ? a : top;
  }
  *out = top;
}

LOADSTONE_KERNEL(magnitude, (const float* x, size_t n, int32_t* out), (x, n, out))

}  // namespace

void widen(uint32_t dtype, const void* in, float* out, size_t n, Cpu cpu) {
  if (dtype == LS_DTYPE_F32) {
    std::memcpy(out, in, n * sizeof(float));
  } else if (dtype == LS_DTYPE_BF16) {
    bf16_decode(static_cast<const uint16_t*>(in), out, n, cpu);
  } else {
    f16_decode(static_cast<const uint16_t*>(in), out, n, cpu);
  }
}

void narrow(uint32_t dtype, const float* in, void* out, size_t n, Cpu cpu) {
  if (dtype == LS_DTYPE_F32) {
    std::memcpy(out, in, n * sizeof(float));
  } else if (dtype == LS_DTYPE_BF16) {
    bf16_encode(in, static_cast<uint16_t*>(out), n, cpu);
  } else {
    f16_encode(in, static_cast<uint16_t*>(out), n, cpu);
  }
}

float max_magnitude(const float* x, size_t n, Cpu cpu) {
  int32_t top = 0;
  magnitude_for(cpu)(x, n, &top);
  return std::bit_cast<float>(top);
}

float larger_magnitude(float a, float b) {
  return std::bit_cast<uint32_t>(a) < std::bit_cast<uint32_t>(b) ? b : a;
}

bool is_finite(float x) { return (std::bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }

}  // namespace loadstone::common
