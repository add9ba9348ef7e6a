// How the blocks of few_rows take W: plain arithmetic on the host.
#pragma once

#include <algorithm>
#include <cstdint>

namespace loadstone::common::cuda::few {

/// `side` bands of W beside each other, `deep` warps that take turns at a band's batches of
/// columns, and `shares` blocks, a cluster, that each have a run of the batches. `chunk`: batches
/// whose x a block holds, whole rounds of its warps' turns.
struct Split {
  uint32_t side, deep, shares, chunk;
};

/// What a kernel leaves room for: `warps` of it on each processor, `ahead` batches of each on their
/// way; `clusters`: blocks may share columns.
struct Room {
  uint32_t processors, warps, ahead;
  bool clusters;
};

constexpr uint32_t kMostWarps = 16;            // of a block
constexpr uint32_t kMostShares = 8;            // blocks of a cluster
constexpr uint32_t kXRoomNbytes = 64 << 10;    // of a block
constexpr uint32_t kBatchRowNbytes = 128 * 2;  // of x, a batch and row

inline uint32_t rounded_up(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

/// Batches of x that a block holds: its share, or as many rounds as have room.
inline uint32_t chunk_of(uint32_t share, uint32_t deep, uint64_t m, uint32_t ahead) {
  const uint32_t round = deep * ahead;
  const uint32_t room = kXRoomNbytes / (kBatchRowNbytes * (m > 8 ? 16 : 8));
  return std::min(rounded_up(share, round), std::max(1u, room / round)) * round;
}

/// Blocks that run at once. A cluster stays within some 16 processors and leaves, on average, half
/// of one of them empty.
inline uint32_t blocks_at_once(const Room& room, uint32_t warps, uint32_t shares) {
  const uint32_t all = room.processors * (room.warps / warps);
  return all - std::min(all, room.processors / 16 * (shares - 1) / 2);
}

/// The most warps at work at once, in the fewest shares; more rows of x are worth wider blocks,
/// which read x less often. `bands`: 32 rows of W each; `batches`: 128 columns each, at least one.
inline Split split_of(uint32_t bands, uint32_t batches, uint64_t m, const Room& room) {
  Split best{m > 8 ? 4u : 2u, 1, 1, 0};
  double most = 0;
  const uint32_t deepest = std::min(kMostWarps, room.warps) / best.side;
  for (uint32_t shares = 1; shares <= (room.clusters ? kMostShares : 1); shares *= 2) {
    for (uint32_t deep = 1; deep <= deepest && deep * shares <= batches; ++deep) {
      const uint32_t warps = best.side * deep, blocks = rounded_up(bands, best.side) * shares;
      const uint32_t share = rounded_up(batches, shares), turns = rounded_up(share, deep);
      const uint32_t at_once = blocks_at_once(room, warps, shares);
      if (at_once == 0) continue;
      const uint32_t waves = rounded_up(blocks, at_once);
      const uint32_t chunks = rounded_up(share, chunk_of(share, deep, m, room.ahead));
      const double full =
          std::min(1.0, static_cast<double>(blocks * warps) / (room.processors * room.warps));
      const double even = static_cast<double>(batches) / (turns * deep * shares);
      const double value = full * even / (waves * chunks);
      if (value < 1.01 * most) continue;
      most = value;
      best.deep = deep;
      best.shares = shares;
    }
  }
  best.chunk = chunk_of(rounded_up(batches, best.shares), best.deep, m, room.ahead);
  return best;
}

}  // namespace loadstone::common::cuda::few
