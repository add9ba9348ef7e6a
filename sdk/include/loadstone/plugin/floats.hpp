// bf16 and f16 ↔ float32, exact one way and rounded to nearest even the other.
#pragma once

#include <bit>

#include "host.hpp"

namespace loadstone::sdk {

inline float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// Nearest even; a NaN stays a (quiet) NaN.
inline uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float f16_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) {
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  }
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

/// Nearest even, overflow to infinity, NaN kept.
inline uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 aligns the mantissa and rounds
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

/// F32, BF16 or F16: what weights come in and activations go out in.
constexpr bool is_float(uint32_t dtype) {
  return dtype == LS_DTYPE_F32 || dtype == LS_DTYPE_BF16 || dtype == LS_DTYPE_F16;
}

constexpr uint64_t float_nbytes(uint32_t dtype) { return dtype == LS_DTYPE_F32 ? 4 : 2; }

/// `count` values of a float dtype to float32.
inline void widen(uint32_t dtype, const void* from, uint64_t count, float* to) {
  if (dtype == LS_DTYPE_F32) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  const auto* half = static_cast<const uint16_t*>(from);
  if (dtype == LS_DTYPE_BF16) {
    for (uint64_t i = 0; i < count; ++i) to[i] = bf16_to_float(half[i]);
  } else if (dtype == LS_DTYPE_F16) {
    for (uint64_t i = 0; i < count; ++i) to[i] = f16_to_float(half[i]);
  } else {
    fail(LS_UNSUPPORTED,
         "widening failed: found dtype " + std::to_string(dtype) + ", expected F32, BF16 or F16");
  }
}

/// float32 to `count` values of a float dtype.
inline void narrow(uint32_t dtype, const float* from, uint64_t count, void* to) {
  if (dtype == LS_DTYPE_F32) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  auto* half = static_cast<uint16_t*>(to);
  if (dtype == LS_DTYPE_BF16) {
    for (uint64_t i = 0; i < count; ++i) half[i] = float_to_bf16(from[i]);
  } else if (dtype == LS_DTYPE_F16) {
    for (uint64_t i = 0; i < count; ++i) half[i] = float_to_f16(from[i]);
  } else {
    fail(LS_UNSUPPORTED,
         "narrowing failed: found dtype " + std::to_string(dtype) + ", expected F32, BF16 or F16");
  }
}

}  // namespace loadstone::sdk
