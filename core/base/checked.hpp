// Checked 64-bit arithmetic for numbers that come from files, plugins or users.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace loadstone {

constexpr std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

constexpr std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t out = 0;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

/// Rounds up to a multiple of `align` (a power of two), or nullopt past 2^64.
constexpr std::optional<uint64_t> checked_align(uint64_t value, uint64_t align) {
  auto sum = checked_add(value, align - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(align - 1);
}

/// Product of the dims. Zero dims count as 1 for the overflow test, so [0, 2^40, 2^40] and
/// [2^40, 2^40, 0] are both refused (security checklist S08).
constexpr std::optional<uint64_t> checked_numel(std::span<const uint64_t> dims) {
  uint64_t product = 1;
  bool empty = false;
  for (uint64_t dim : dims) {
    if (dim == 0) {
      empty = true;
      continue;
    }
    auto next = checked_mul(product, dim);
    if (!next) return std::nullopt;
    product = *next;
  }
  return empty ? 0 : product;
}

}  // namespace loadstone
