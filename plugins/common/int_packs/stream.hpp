// Values of `bits` bits in a little-endian stream of 32-bit words.
#pragma once

#include <cstdint>

namespace loadstone::int_packs {

/// Value `index` of a stream whose words lie `stride` words apart.
inline uint32_t stream_value(const uint32_t* words, uint64_t stride, uint64_t index,
                             uint32_t bits) {
  const uint64_t bit = index * bits;
  const uint32_t shift = bit % 32;
  uint64_t value = words[bit / 32 * stride] >> shift;
  if (shift + bits > 32)
    value |= static_cast<uint64_t>(words[(bit / 32 + 1) * stride]) << (32 - shift);
  return static_cast<uint32_t>(value) & ((1u << bits) - 1);
}

/// Words that hold `count` values.
constexpr uint64_t stream_words(uint64_t count, uint32_t bits) { return (count * bits + 31) / 32; }

}  // namespace loadstone::int_packs
