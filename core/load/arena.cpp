#include "load/arena.hpp"

#include <algorithm>
#include <iterator>

namespace loadstone::load {

Arena::Arena(uint64_t nbytes) {
  if (nbytes != 0) free_.emplace(0, nbytes);
}

bool Arena::fits(uint64_t nbytes) const {
  return nbytes == 0 || std::any_of(free_.begin(), free_.end(),
                                    [&](const auto& gap) { return gap.second >= nbytes; });
}

std::optional<uint64_t> Arena::take(uint64_t nbytes) {
  if (nbytes == 0) return 0;
  for (auto gap = free_.begin(); gap != free_.end(); ++gap) {
    const auto [offset, room] = *gap;
    if (room < nbytes) continue;
    free_.erase(gap);
    if (room > nbytes) free_.emplace(offset + nbytes, room - nbytes);
    return offset;
  }
  return std::nullopt;
}

void Arena::give_back(uint64_t offset, uint64_t nbytes) {
  if (nbytes == 0) return;
  auto after = free_.lower_bound(offset);
  if (after != free_.end() && after->first == offset + nbytes) {
    nbytes += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += nbytes;
      return;
    }
  }
  free_.emplace(offset, nbytes);
}

}  // namespace loadstone::load
