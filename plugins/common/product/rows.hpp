// Inside the products: rows of a call's x and y, bias, and work cut into tasks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <loadstone/plugin.hpp>

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

/// body(group, call of that group's rows alone) for each group that has rows. Experts: x is sorted
/// by group, call.group_end holds each group's end.
template <typename Body>
void for_groups(const ls_apply& call, uint32_t groups, const Body& body) {
  if (call.group_end == nullptr) sdk::fail(LS_INVALID_ARGUMENT, "grouped apply without group_end");
  uint64_t begin = 0;
  for (uint32_t group = 0; group < groups; ++group) {
    const uint64_t end = call.group_end[group];
    if (end < begin || end > call.m) {
      sdk::fail(LS_INVALID_ARGUMENT, "group_end is not ascending");
    }
    if (end > begin) {
      ls_apply one = call;
      one.m = end - begin;
      one.x = static_cast<const char*>(call.x) + begin * call.x_stride * float_nbytes(call.x_dtype);
      one.y = y_at(call, begin, 0);
      body(group, one);
    }
    begin = end;
  }
}

}  // namespace loadstone::common
