#include "formats/gguf_metadata.hpp"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "base/checked.hpp"
#include "base/text.hpp"
#include "formats/name_table.hpp"

namespace loadstone::formats {
namespace {

constexpr uint64_t kMaxKeyNbytes = 65535;       // the format's own limit
constexpr uint64_t kMaxTextNbytes = 16u << 20;  // chat templates are the longest known
constexpr uint64_t kMaxArrayCount = 1u << 28;
constexpr uint64_t kShownArrayCount = 1024;

struct TypeRow {
  std::string_view name;
  uint64_t nbytes;  // 0: of varying size
};

constexpr std::array<TypeRow, 13> kTypes = {{{"uint8", 1},
                                             {"int8", 1},
                                             {"uint16", 2},
                                             {"int16", 2},
                                             {"uint32", 4},
                                             {"int32", 4},
                                             {"float32", 4},
                                             {"bool", 1},
                                             {"string", 0},
                                             {"array", 0},
                                             {"uint64", 8},
                                             {"int64", 8},
                                             {"float64", 8}}};

const TypeRow& row_of(GgufType type) { return kTypes[static_cast<uint32_t>(type)]; }

Result<GgufType> read_type(GgufCursor& cursor, ByteRange key) {
  LS_TRY(const uint32_t number, cursor.number<uint32_t>());
  if (number < kTypes.size()) return static_cast<GgufType>(number);
  return cursor.rejected(fmt::format("found value type {} of key {}, expected 0 to {}", number,
                                     loadstone::quoted(cursor.view(key)), kTypes.size() - 1));
}

Result<ByteRange> read_bools(GgufCursor& cursor, ByteRange key, uint64_t count) {
  LS_TRY(const ByteRange range, cursor.take(count));
  for (const char byte : cursor.view(range)) {
    if (static_cast<unsigned char>(byte) <= 1) continue;
    return cursor.rejected(fmt::format("found a bool {} of key {}, expected 0 or 1",
                                       static_cast<unsigned char>(byte),
                                       loadstone::quoted(cursor.view(key))));
  }
  return range;
}

Result<ByteRange> read_texts(GgufCursor& cursor, uint64_t count) {
  const uint64_t begin = cursor.offset();
  for (uint64_t i = 0; i < count; ++i) {
    LS_TRY(const ByteRange unused, cursor.text("a string", kMaxTextNbytes));
    (void)unused;
  }
  return ByteRange{begin, cursor.offset() - begin};
}

Result<ByteRange> read_values(GgufCursor& cursor, ByteRange key, GgufType type, uint64_t count) {
  const uint64_t least = type == GgufType::TEXT ? sizeof(uint64_t) : row_of(type).nbytes;
  const auto nbytes = checked_mul(count, least);
  if (count > kMaxArrayCount || !nbytes || *nbytes > cursor.rest()) {
    return cursor.rejected(
        fmt::format("found {} values of type {} under key {}, expected at most "
                    "the {} bytes left",
                    count, row_of(type).name, loadstone::quoted(cursor.view(key)), cursor.rest()));
  }
  if (type == GgufType::TEXT) return read_texts(cursor, count);
  if (type == GgufType::BOOL) return read_bools(cursor, key, count);
  return cursor.take(*nbytes);
}

Result<GgufKey> read_key(GgufCursor& cursor) {
  GgufKey key;
  LS_TRY(key.name, cursor.text("a key", kMaxKeyNbytes));
  if (key.name.nbytes == 0) return cursor.rejected("found an empty key, expected a name");
  LS_TRY(key.type, read_type(cursor, key.name));
  if (key.type != GgufType::ARRAY) {
    LS_TRY(key.value, read_values(cursor, key.name, key.type, 1));
    return key;
  }
  LS_TRY(key.element, read_type(cursor, key.name));
  if (key.element == GgufType::ARRAY) {
    return cursor.rejected(
        fmt::format("found an array of arrays under key {}, expected plain values",
                    loadstone::quoted(cursor.view(key.name))));
  }
  LS_TRY(key.count, cursor.number<uint64_t>());
  LS_TRY(key.value, read_values(cursor, key.name, key.element, key.count));
  return key;
}

Node unsigned_node(uint64_t value) {
  if (value > static_cast<uint64_t>(INT64_MAX)) return Node::of_number(static_cast<double>(value));
  return Node::of_integer(static_cast<int64_t>(value));
}

// A value at `offset`, which moves behind it.
Node value_node(const GgufCursor& cursor, GgufType type, uint64_t& offset) {
  const uint64_t at = offset;
  offset += row_of(type).nbytes;
  switch (type) {
    case GgufType::U8:
      return Node::of_integer(cursor.at<uint8_t>(at));
    case GgufType::I8:
      return Node::of_integer(cursor.at<int8_t>(at));
    case GgufType::U16:
      return Node::of_integer(cursor.at<uint16_t>(at));
    case GgufType::I16:
      return Node::of_integer(cursor.at<int16_t>(at));
    case GgufType::U32:
      return Node::of_integer(cursor.at<uint32_t>(at));
    case GgufType::I32:
      return Node::of_integer(cursor.at<int32_t>(at));
    case GgufType::F32:
      return Node::of_number(cursor.at<float>(at));
    case GgufType::BOOL:
      return Node::of_bool(cursor.at<uint8_t>(at) != 0);
    case GgufType::U64:
      return unsigned_node(cursor.at<uint64_t>(at));
    case GgufType::I64:
      return Node::of_integer(cursor.at<int64_t>(at));
    case GgufType::F64:
      return Node::of_number(cursor.at<double>(at));
    case GgufType::TEXT: {
      const uint64_t nbytes = cursor.at<uint64_t>(at);
      offset += sizeof(nbytes) + nbytes;
      return Node::of_text(std::string(cursor.view({at + sizeof(nbytes), nbytes})));
    }
    case GgufType::ARRAY:
      break;
  }
  return {};
}

Node key_node(const GgufCursor& cursor, const GgufKey& key) {
  uint64_t offset = key.value.offset;
  if (key.type != GgufType::ARRAY) return value_node(cursor, key.type, offset);
  if (key.count > kShownArrayCount) {
    return Node::of_map({{"array", Node::of_text(std::string(row_of(key.element).name))},
                         {"count", unsigned_node(key.count)}});
  }
  Node list = Node::of_list({});
  for (uint64_t i = 0; i < key.count; ++i) {
    list.items().push_back(value_node(cursor, key.element, offset));
  }
  return list;
}

}  // namespace

Result<std::vector<GgufKey>> read_gguf_keys(GgufCursor& cursor, uint64_t count) {
  std::vector<GgufKey> keys;
  keys.reserve(count);  // the caller has held it against the file's size
  NameHashes names;
  for (uint64_t i = 0; i < count; ++i) {
    LS_TRY(GgufKey key, read_key(cursor));
    names.add(cursor.view(key.name));
    keys.push_back(key);
  }
  const auto repeated = names.first_repeated([&](uint32_t i) { return cursor.view(keys[i].name); });
  if (!repeated) return keys;
  return cursor.rejected(fmt::format("found duplicate key {}, expected it once",
                                     loadstone::quoted(cursor.view(keys[*repeated].name))));
}

Node gguf_metadata(const GgufCursor& cursor, const std::vector<GgufKey>& keys) {
  Node map = Node::of_map({});
  for (const GgufKey& key : keys) {
    map.entries().emplace_back(std::string(cursor.view(key.name)), key_node(cursor, key));
  }
  return map;
}

}  // namespace loadstone::formats
