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

inline constexpr TypeInfo kTypes[] = {
    {kF32, "F32", 1, 4, true},           {kF16, "F16", 1, 2, true},
    {kBF16, "BF16", 1, 2, true},         {kQ4_0, "Q4_0", 32, 18, true},
    {kQ4_1, "Q4_1", 32, 20, true},       {kQ5_0, "Q5_0", 32, 22, true},
    {kQ5_1, "Q5_1", 32, 24, true},       {kQ8_0, "Q8_0", 32, 34, true},
    {kQ8_1, "Q8_1", 32, 40, false},      {kQ2_K, "Q2_K", 256, 84, true},
    {kQ3_K, "Q3_K", 256, 110, true},     {kQ4_K, "Q4_K", 256, 144, true},
    {kQ5_K, "Q5_K", 256, 176, true},     {kQ6_K, "Q6_K", 256, 210, true},
    {kQ8_K, "Q8_K", 256, 292, false},    {kIQ2_XXS, "IQ2_XXS", 256, 66, true},
    {kIQ2_XS, "IQ2_XS", 256, 74, true},  {kIQ3_XXS, "IQ3_XXS", 256, 98, true},
    {kIQ1_S, "IQ1_S", 256, 50, true},    {kIQ4_NL, "IQ4_NL", 32, 18, true},
    {kIQ3_S, "IQ3_S", 256, 110, true},   {kIQ2_S, "IQ2_S", 256, 82, true},
    {kIQ4_XS, "IQ4_XS", 256, 136, true}, {kIQ1_M, "IQ1_M", 256, 56, true},
    {kTQ1_0, "TQ1_0", 256, 54, true},    {kTQ2_0, "TQ2_0", 256, 66, true},
    {kMXFP4, "MXFP4", 32, 17, true},     {kNVFP4, "NVFP4", 64, 36, true},
    {kQ1_0, "Q1_0", 128, 18, false},
};

/// The block types and F32, F16, BF16; null for any other id.
constexpr const TypeInfo* find_type(uint32_t id) {
  for (const TypeInfo& info : kTypes) {
    if (info.type == id) return &info;
  }
  return nullptr;
}

/// By name, case-sensitive ("Q4_K"); null if there is none.
constexpr const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& info : kTypes) {
    if (name == info.name) return &info;
  }
  return nullptr;
}

}  // namespace loadstone::ggml
