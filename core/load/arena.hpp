// Places in a stretch of memory that is given out and taken back in any order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace loadstone::load {

/// Offsets, first fit; neighbours that come back are one again. One thread at a time.
class Arena {
 public:
  explicit Arena(uint64_t nbytes);

  /// The lowest place with room, or nothing. Zero bytes are at 0.
  std::optional<uint64_t> take(uint64_t nbytes);
  bool fits(uint64_t nbytes) const;
  void give_back(uint64_t offset, uint64_t nbytes);

 private:
  std::map<uint64_t, uint64_t> free_;  // offset → bytes
};

}  // namespace loadstone::load
