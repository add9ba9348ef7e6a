// Inside the products: rows of a call's x and y, bias, and work cut into tasks.
#pragma once

#include <loadstone/plugin.h>

#include <algorithm>
#include <cstdint>

#include "common/numerics/floats.hpp"

namespace loadstone::common {

inline constexpr uint64_t kMaxTasks = 32;  // slices of the workspace: one each

constexpr uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }
constexpr uint64_t ceil_div(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

/// Row `row` of call.x as float32: in place, or widened into `room` (k floats).
inline const float* x_row(const ls_apply& call, uint64_t row, uint64_t k, float* room) {
  const uint64_t item = float_nbytes(call.x_dtype);
  const auto* from = static_cast<const char*>(call.x) + row * call.x_stride * item;
  if (call.x_dtype == LS_DTYPE_F32) return reinterpret_cast<const float*>(from);
  widen(call.x_dtype, from, room, k);
  return room;
}

/// Address of y[row][column].
inline void* y_at(const ls_apply& call, uint64_t row, uint64_t column) {
  const uint64_t item = float_nbytes(call.y_dtype);
  return static_cast<char*>(call.y) + (row * call.y_stride + column) * item;
}

/// bias[begin, begin+count) as float32, zeros without a bias.
inline void bias_row(const ls_apply& call, uint64_t begin, uint64_t count, float* out) {
  if (call.bias == nullptr) {
    std::fill(out, out + count, 0.0f);
  } else {
    const uint64_t item = float_nbytes(call.bias_dtype);
    widen(call.bias_dtype, static_cast<const char*>(call.bias) + begin * item, out, count);
  }
}

}  // namespace loadstone::common
