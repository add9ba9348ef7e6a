#include "base/dtype.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace loadstone {
namespace {

struct PlainType {
  DType dtype;
  std::string_view name;
  DTypeLayout layout;
};

constexpr std::array kPlain = {
    PlainType{DType::BOOL, "BOOL", {1, 1}},
    PlainType{DType::F4, "F4", {2, 1}},
    PlainType{DType::F6_E2M3, "F6_E2M3", {4, 3}},
    PlainType{DType::F6_E3M2, "F6_E3M2", {4, 3}},
    PlainType{DType::U8, "U8", {1, 1}},
    PlainType{DType::I8, "I8", {1, 1}},
    PlainType{DType::F8_E5M2, "F8_E5M2", {1, 1}},
    PlainType{DType::F8_E4M3, "F8_E4M3", {1, 1}},
    PlainType{DType::F8_E8M0, "F8_E8M0", {1, 1}},
    PlainType{DType::F8_E4M3FNUZ, "F8_E4M3FNUZ", {1, 1}},
    PlainType{DType::F8_E5M2FNUZ, "F8_E5M2FNUZ", {1, 1}},
    PlainType{DType::I16, "I16", {1, 2}},
    PlainType{DType::U16, "U16", {1, 2}},
    PlainType{DType::F16, "F16", {1, 2}},
    PlainType{DType::BF16, "BF16", {1, 2}},
    PlainType{DType::I32, "I32", {1, 4}},
    PlainType{DType::U32, "U32", {1, 4}},
    PlainType{DType::F32, "F32", {1, 4}},
    PlainType{DType::C64, "C64", {1, 8}},
    PlainType{DType::F64, "F64", {1, 8}},
    PlainType{DType::I64, "I64", {1, 8}},
    PlainType{DType::U64, "U64", {1, 8}},
};

struct GgmlType {
  uint32_t id;
  std::string_view name;
  DTypeLayout layout;
};

// Block sizes: reference/numeric-definitions §7 (gguf-py 0.19.0). F32, F16, BF16 and the integer
// types of ggml map onto the plain types in the GGUF reader and do not appear here.
constexpr std::array kGgml = {
    GgmlType{2, "Q4_0", {32, 18}},      GgmlType{3, "Q4_1", {32, 20}},
    GgmlType{6, "Q5_0", {32, 22}},      GgmlType{7, "Q5_1", {32, 24}},
    GgmlType{8, "Q8_0", {32, 34}},      GgmlType{9, "Q8_1", {32, 40}},
    GgmlType{10, "Q2_K", {256, 84}},    GgmlType{11, "Q3_K", {256, 110}},
    GgmlType{12, "Q4_K", {256, 144}},   GgmlType{13, "Q5_K", {256, 176}},
    GgmlType{14, "Q6_K", {256, 210}},   GgmlType{15, "Q8_K", {256, 292}},
    GgmlType{16, "IQ2_XXS", {256, 66}}, GgmlType{17, "IQ2_XS", {256, 74}},
    GgmlType{18, "IQ3_XXS", {256, 98}}, GgmlType{19, "IQ1_S", {256, 50}},
    GgmlType{20, "IQ4_NL", {32, 18}},   GgmlType{21, "IQ3_S", {256, 110}},
    GgmlType{22, "IQ2_S", {256, 82}},   GgmlType{23, "IQ4_XS", {256, 136}},
    GgmlType{29, "IQ1_M", {256, 56}},   GgmlType{34, "TQ1_0", {256, 54}},
    GgmlType{35, "TQ2_0", {256, 66}},   GgmlType{39, "MXFP4", {32, 17}},
    GgmlType{40, "NVFP4", {64, 36}},    GgmlType{41, "Q1_0", {128, 18}},
};

template <typename Table, typename Key, typename Projection>
auto find_in(const Table& table, const Key& key, Projection projection) {
  return std::find_if(std::begin(table), std::end(table),
                      [&](const auto& row) { return projection(row) == key; });
}

const PlainType* plain(DType dtype) {
  const auto* row = find_in(kPlain, dtype, [](const PlainType& p) { return p.dtype; });
  return row == kPlain.end() ? nullptr : row;
}

const GgmlType* ggml(DType dtype) {
  if (!is_ggml(dtype)) return nullptr;
  const uint32_t id = static_cast<uint32_t>(dtype) - kGgmlBase;
  const auto* row = find_in(kGgml, id, [](const GgmlType& g) { return g.id; });
  return row == kGgml.end() ? nullptr : row;
}

}  // namespace

std::optional<DTypeLayout> layout_of(DType dtype) {
  if (const PlainType* row = plain(dtype)) return row->layout;
  if (const GgmlType* row = ggml(dtype)) return row->layout;
  return std::nullopt;
}

std::string_view name_of(DType dtype) {
  if (const PlainType* row = plain(dtype)) return row->name;
  if (const GgmlType* row = ggml(dtype)) return row->name;
  return "invalid";
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  const auto* row = find_in(kPlain, name, [](const PlainType& p) { return p.name; });
  if (row == kPlain.end()) return std::nullopt;
  return row->dtype;
}

std::string known_safetensors_dtypes() {
  std::string out;
  for (const PlainType& row : kPlain) {
    if (!out.empty()) out += ", ";
    out += row.name;
  }
  return out;
}

}  // namespace loadstone
