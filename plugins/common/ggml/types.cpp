#include "common/ggml/types.hpp"

namespace loadstone::ggml {
namespace {

constexpr TypeInfo kTypes[] = {
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

}  // namespace

const TypeInfo* find_type(uint32_t id) {
  for (const TypeInfo& info : kTypes) {
    if (info.type == id) return &info;
  }
  return nullptr;
}

const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& info : kTypes) {
    if (name == info.name) return &info;
  }
  return nullptr;
}

}  // namespace loadstone::ggml
