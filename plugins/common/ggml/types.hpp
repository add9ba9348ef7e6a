// ggml's tensor types: ids, names and block geometry (gguf-py 0.19.0). A row is whole blocks; all
// integers are little-endian.
#pragma once

#include <cstdint>
#include <string_view>

namespace loadstone::ggml {

enum Type : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
};

/// One past the largest id that may appear.
inline constexpr uint32_t kTypeEnd = 42;

/// `elems` values share `nbytes` bytes. `decodes`: this library turns it into floats (Q8_1, Q8_K
/// and Q1_0 have a size but no published decoder).
struct TypeInfo {
  Type type;
  const char* name;
  uint32_t elems;
  uint32_t nbytes;
  bool decodes;
};

/// The block types and F32, F16, BF16; null for any other id.
const TypeInfo* find_type(uint32_t id);
/// By name, case-sensitive ("Q4_K"); null if there is none.
const TypeInfo* find_type(std::string_view name);

}  // namespace loadstone::ggml
