// The key-value part of a GGUF head.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/tree.hpp"
#include "formats/gguf_cursor.hpp"

namespace loadstone::formats {

enum class GgufType : uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  BOOL = 7,
  TEXT = 8,
  ARRAY = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12,
};

/// A key whose value has been checked and lies in the cursor's buffer.
struct GgufKey {
  ByteRange name;
  GgufType type = GgufType::U8;
  GgufType element = GgufType::U8;  // of an array
  uint64_t count = 1;               // of an array
  ByteRange value;                  // an array's elements
};

/// Keys in file order; duplicates refused.
Result<std::vector<GgufKey>> read_gguf_keys(GgufCursor& cursor, uint64_t count);

/// Values as a tree. Arrays of over 1,024 values are only described.
Node gguf_metadata(const GgufCursor& cursor, const std::vector<GgufKey>& keys);

}  // namespace loadstone::formats
