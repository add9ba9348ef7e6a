// Reading what a plugin hands over: its structs may be shorter or longer than ours, its pointers
// null, its counts wild.
#pragma once

#include <loadstone/plugin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

namespace loadstone::plugin {

/// A plugin's struct at today's size: no byte past its struct_size is read, missing fields are
/// zero. nullopt for a null pointer or a size under `least` bytes.
template <typename T>
std::optional<T> read_foreign(const T* from, size_t least = sizeof(uint32_t)) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (from == nullptr) return std::nullopt;
  uint32_t size = 0;
  std::memcpy(&size, from, sizeof size);
  if (size < least) return std::nullopt;
  T out{};
  std::memcpy(static_cast<void*>(&out), from, std::min<size_t>(size, sizeof(T)));
  out.struct_size = sizeof(T);
  return out;
}

/// "" for null; at most `max_nbytes` are looked at.
inline std::string_view foreign_text(const char* text, size_t max_nbytes = 4096) {
  return text == nullptr ? std::string_view() : std::string_view(text, strnlen(text, max_nbytes));
}

/// Names that the interface allows for plugins, methods and fields: [a-z0-9_], 1 to 64.
inline bool is_plain_name(std::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

}  // namespace loadstone::plugin
