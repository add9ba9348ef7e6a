// Element types of stored tensors. Values equal the LS_DTYPE_* numbers of the plugin interface.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace loadstone {

/// Plain types carry the safetensors names; ggml block types are kGgmlBase + ggml's type id
/// (their shape is the logical one, a row is whole blocks).
enum class DType : uint32_t {
  invalid = 0,
  BOOL = 1,
  U8 = 2,
  I8 = 3,
  I16 = 4,
  U16 = 5,
  I32 = 6,
  U32 = 7,
  I64 = 8,
  U64 = 9,
  F16 = 10,
  BF16 = 11,
  F32 = 12,
  F64 = 13,
  C64 = 14,
  F8_E4M3 = 15,
  F8_E5M2 = 16,
  F8_E8M0 = 17,
  F8_E4M3FNUZ = 18,
  F8_E5M2FNUZ = 19,
  F4 = 20,
  F6_E2M3 = 21,
  F6_E3M2 = 22,
};

inline constexpr uint32_t kGgmlBase = 0x1000;

/// Block geometry: `block_elems` values share `block_nbytes` bytes. Plain byte types have
/// block_elems 1; F4 is {2, 1}, F6_* {4, 3}.
struct DTypeLayout {
  uint32_t block_elems = 1;
  uint32_t block_nbytes = 0;
};

/// Layout of a type, or nullopt for a number that names none (ggml ids included).
std::optional<DTypeLayout> layout_of(DType dtype);
/// "BF16", "F8_E4M3", "Q4_K", …; "invalid" for an unknown number.
std::string_view name_of(DType dtype);
/// The inverse for safetensors names (case-sensitive, as the format is).
std::optional<DType> dtype_from_safetensors(std::string_view name);
/// All safetensors dtype names, comma-separated, for error texts.
std::string known_safetensors_dtypes();

constexpr bool is_ggml(DType dtype) { return static_cast<uint32_t>(dtype) >= kGgmlBase; }
constexpr DType ggml_dtype(uint32_t type_id) { return static_cast<DType>(kGgmlBase + type_id); }
/// F16, BF16, F32, F64: a plain floating type that a kept layer may have.
constexpr bool is_plain_float(DType d) {
  return d == DType::F16 || d == DType::BF16 || d == DType::F32 || d == DType::F64;
}

}  // namespace loadstone
