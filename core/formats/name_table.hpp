// Finds repeated names of tensors by hash, in one flat array: a container with 70,000 names must
// not cost a node each, nor a comparison a pair.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace loadstone::formats {

/// Names are hashed as they are read, while they are in the cache, and compared only where hashes
/// agree.
class NameHashes {
 public:
  void reserve(size_t count) { hashes_.reserve(count); }
  void add(std::string_view name) {
    hashes_.push_back(static_cast<uint32_t>(std::hash<std::string_view>()(name)));
  }

  /// The first index whose name occurred before, or nullopt. `name_of(index)` gives the names in
  /// the order in which they were added.
  template <typename NameOf>
  std::optional<uint32_t> first_repeated(const NameOf& name_of) const {
    size_t slots = 16;
    while (slots < hashes_.size() * 2) slots *= 2;
    std::vector<Slot> table(slots);
    for (uint32_t i = 0; i < hashes_.size(); ++i) {
      const uint32_t hash = hashes_[i];
      size_t at = hash & (slots - 1);
      for (; table[at].count != 0; at = (at + 1) & (slots - 1)) {
        if (table[at].hash == hash && name_of(table[at].count - 1) == name_of(i)) return i;
      }
      table[at] = {hash, i + 1};
    }
    return std::nullopt;
  }

 private:
  struct Slot {
    uint32_t hash = 0;
    uint32_t count = 0;  // index + 1; 0: empty
  };
  std::vector<uint32_t> hashes_;
};

}  // namespace loadstone::formats
