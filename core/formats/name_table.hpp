// Finds repeated names of tensors by hash, in one flat array: a container with 70,000 names must
// not cost a node each, nor a comparison a pair.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace loadstone::formats {

/// `NameOf(index)` gives the name of an index below `count`; it must stay stable.
template <typename NameOf>
class NameTable {
 public:
  NameTable(size_t count, NameOf name_of) : name_of_(std::move(name_of)) {
    size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    slots_.assign(slots, kEmpty);
  }

  /// Index of an earlier one of the same name, or nullopt after adding this one.
  std::optional<uint32_t> add(uint32_t index) {
    const std::string_view name = name_of_(index);
    const size_t mask = slots_.size() - 1;
    size_t at = std::hash<std::string_view>()(name) & mask;
    for (; slots_[at] != kEmpty; at = (at + 1) & mask) {
      if (name_of_(slots_[at]) == name) return slots_[at];
    }
    slots_[at] = index;
    return std::nullopt;
  }

 private:
  static constexpr uint32_t kEmpty = UINT32_MAX;
  NameOf name_of_;
  std::vector<uint32_t> slots_;
};

/// The first name that occurs again, or nullopt.
template <typename NameOf>
std::optional<uint32_t> first_repeated(size_t count, NameOf name_of) {
  NameTable<NameOf> table(count, std::move(name_of));
  for (uint32_t i = 0; i < count; ++i) {
    if (table.add(i)) return i;
  }
  return std::nullopt;
}

}  // namespace loadstone::formats
