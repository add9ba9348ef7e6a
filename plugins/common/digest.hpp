// A 32-byte digest of short texts: keys of shared activations. Not for trust.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace loadstone::common {

/// Four FNV-1a sums with different starts.
inline void digest(std::string_view text, uint8_t out[32]) {
  for (uint64_t lane = 0; lane < 4; ++lane) {
    uint64_t hash = 0xcbf29ce484222325ull ^ (lane * 0x9e3779b97f4a7c15ull);
    for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
    std::memcpy(out + lane * sizeof hash, &hash, sizeof hash);
  }
}

}  // namespace loadstone::common
