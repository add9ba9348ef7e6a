// What a unit of layers reads in one phase, joined into few reads.
#pragma once

#include <memory>
#include <vector>

#include "load/session.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// A stretch of a file with what happens to it.
struct Item {
  enum class Kind : uint8_t {
    place,    // bytes go to `to` as they are
    strided,  // rows go to `to`, each dst_stride further
    cast,     // floats go to `to` in another dtype
    feed,     // a piece of a streamed source
  };
  Kind kind = Kind::place;
  Session* session = nullptr;
  uint32_t file = 0;
  uint64_t offset = 0, nbytes = 0;
  std::byte* to = nullptr;
  uint64_t rows = 0, row_nbytes = 0, src_stride = 0, dst_stride = 0;  // strided
  DType from_dtype = DType::invalid, to_dtype = DType::invalid;       // cast
  uint64_t elem_nbytes = 1;  // alignment that the consumer needs
  bool slab = false;         // `to` lies in fresh pages of a slab
  bool feeds = false;        // `piece` is fed once the bytes are in place
  Piece piece;               // piece.at null: where the read put it
};

/// One pread (or several into one buffer), then its items in order. Without `nbytes` the items
/// come from memory.
struct Read {
  uint32_t file = 0;
  uint64_t offset = 0, nbytes = 0;
  std::byte* direct = nullptr;   // straight to its place
  uint64_t assembly_nbytes = 0;  // a granule larger than a slot: a buffer of its own
  uint64_t feed_nbytes = 0;      // to reserve for scratch, statistics and assembly
  bool slot = false;             // through the ring
  bool on_gpu = false;           // its items are copied and fed there; staged, unless `direct`
  std::vector<Item> items;
};

/// Phases of a unit; each begins when the one before is done.
enum class Phase : uint8_t {
  place,   // resident sources, identities, casts; streamed sources of sessions that need no other
  stream,  // streamed sources and checked identities of the others
  second,  // the second pass over streamed sources
};

/// Sessions without resident sources to wait for begin at once.
bool begins_early(const plan::LayerPlan& layer);

/// Reads of one phase, in file order.
std::vector<Read> make_reads(const plan::Plan& plan, const plan::Flow& flow,
                             const std::vector<std::unique_ptr<Session>>& sessions, Phase phase);

}  // namespace loadstone::load
