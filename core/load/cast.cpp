#include "load/cast.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace loadstone::load {

namespace {

// Each type: the stored form, and conversions to and from double, which holds all of them exactly.
struct F64 {
  using Stored = double;
  static double read(double x) { return x; }
  static double write(double x) { return x; }
};

struct F32 {
  using Stored = float;
  static double read(float x) { return x; }
  static float write(double x) { return static_cast<float>(x); }
};

struct F16 {
  using Stored = _Float16;
  static double read(_Float16 x) { return static_cast<double>(x); }
  static _Float16 write(double x) { return static_cast<_Float16>(x); }
};

struct BF16 {
  using Stored = uint16_t;
  static double read(uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); }
  /// From the double itself, not by way of float, which would round twice.
  static uint16_t write(double x) {
    if (std::isnan(x)) return static_cast<uint16_t>((std::signbit(x) ? 0x8000 : 0) | 0x7FC0);
    float near = static_cast<float>(x);
    auto bits = std::bit_cast<uint32_t>(near);
    uint32_t tail = bits & 0xFFFF;
    double magnitude = std::fabs(x), nearest = std::fabs(static_cast<double>(near));
    bits &= 0xFFFF0000u;
    bool up =
        tail > 0x8000 ||
        (tail == 0x8000 && (magnitude > nearest || (magnitude == nearest && (bits & 0x10000))));
    return static_cast<uint16_t>((bits >> 16) + (up ? 1 : 0));
  }
};

/// Minifloats without infinities (e4m3fn) or IEEE-like (e5m2).
double minifloat(uint8_t code, int mantissa_bits, int bias, bool has_infinity) {
  int exponent_bits = 7 - mantissa_bits;
  int exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1);
  int mantissa = code & ((1 << mantissa_bits) - 1);
  double sign = (code & 0x80) != 0 ? -1.0 : 1.0;
  bool top = exponent == (1 << exponent_bits) - 1;
  if (has_infinity && top) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (top && mantissa == (1 << mantissa_bits) - 1) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

struct E4M3 {
  using Stored = uint8_t;
  static double read(uint8_t x) { return minifloat(x, 3, 7, false); }
};

struct E5M2 {
  using Stored = uint8_t;
  static double read(uint8_t x) { return minifloat(x, 2, 15, true); }
};

template <typename From, typename To>
bool convert(const std::byte* from, std::byte* to, uint64_t elems) {
  const auto* in = reinterpret_cast<const typename From::Stored*>(from);
  auto* out = reinterpret_cast<typename To::Stored*>(to);
  bool fits = true;
  for (uint64_t i = 0; i < elems; ++i) {
    double x = From::read(in[i]);
    out[i] = To::write(x);
    fits &= !std::isfinite(x) || std::isfinite(To::read(out[i]));
  }
  return fits;
}

/// The common one, which must not be slower than memory: exact, nothing to check.
void widen_bf16(const std::byte* from, std::byte* to, uint64_t elems) {
  const auto* in = reinterpret_cast<const uint16_t*>(from);
  auto* out = reinterpret_cast<uint32_t*>(to);
  for (uint64_t i = 0; i < elems; ++i) out[i] = uint32_t{in[i]} << 16;
}

template <typename From>
bool convert_to(const std::byte* from, std::byte* to, DType to_dtype, uint64_t elems) {
  switch (to_dtype) {
    case DType::F16:
      return convert<From, F16>(from, to, elems);
    case DType::BF16:
      return convert<From, BF16>(from, to, elems);
    case DType::F32:
      return convert<From, F32>(from, to, elems);
    case DType::F64:
      return convert<From, F64>(from, to, elems);
    default:
      return false;
  }
}

}  // namespace

bool cast(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype, uint64_t elems) {
  if (from_dtype == DType::BF16 && to_dtype == DType::F32) {
    widen_bf16(from, to, elems);
    return true;
  }
  if (from_dtype == to_dtype && is_plain_float(to_dtype)) {
    std::memcpy(to, from, elems * layout_of(to_dtype)->block_nbytes);
    return true;
  }
  switch (from_dtype) {
    case DType::F16:
      return convert_to<F16>(from, to, to_dtype, elems);
    case DType::BF16:
      return convert_to<BF16>(from, to, to_dtype, elems);
    case DType::F32:
      return convert_to<F32>(from, to, to_dtype, elems);
    case DType::F64:
      return convert_to<F64>(from, to, to_dtype, elems);
    case DType::F8_E4M3:
      return convert_to<E4M3>(from, to, to_dtype, elems);
    case DType::F8_E5M2:
      return convert_to<E5M2>(from, to, to_dtype, elems);
    default:
      return false;
  }
}

bool can_cast_from(DType dtype) {
  return is_plain_float(dtype) || dtype == DType::F8_E4M3 || dtype == DType::F8_E5M2;
}

}  // namespace loadstone::load
