#include "load/reads.hpp"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "load/pages.hpp"
#include "plan/flow.hpp"

namespace loadstone::load {

namespace {

using plan::kDirectNbytes;
using plan::kMaxGapNbytes;

uint64_t elem_nbytes(DType dtype) {
  if (is_ggml(dtype)) return 2;  // blocks hold half-precision scales
  auto layout = layout_of(dtype);
  return layout && layout->block_elems == 1 ? std::max(layout->block_nbytes, 1u) : 1;
}

class Builder {
 public:
  Builder(const plan::Plan& plan, const plan::Flow& flow, Phase phase)
      : plan_(plan), flow_(flow), phase_(phase) {}

  void add(Session& session) {
    session_ = &session;
    layer_ = &session.layer();
    bool early = begins_early(*layer_);
    if (phase_ == Phase::place) {
      add_residents();
      add_identities(false);
      for (const plan::Cast& cast : layer_->casts) add_cast(cast);
    }
    if (phase_ == (early ? Phase::place : Phase::stream)) {
      add_streamed(1);
      add_identities(true);
    }
    if (phase_ == Phase::second && layer_->passes == 2) add_streamed(2);
  }

  std::vector<Read> finish() {
    std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
      return std::tie(a.file, a.offset, a.nbytes) < std::tie(b.file, b.offset, b.nbytes);
    });
    for (size_t i = 0; i < items_.size();) i = place_run(i);
    flush();
    return std::move(reads_);
  }

 private:
  const formats::TensorEntry& entry(uint32_t tensor) const {
    return plan_.entry_of(*layer_, tensor);
  }

  Item item_at(Item::Kind kind, const formats::TensorEntry& from, uint64_t offset,
               uint64_t nbytes) const {
    Item item;
    item.kind = kind;
    item.session = session_;
    item.file = from.file;
    item.offset = from.offset + offset;
    item.nbytes = nbytes;
    bool copied = kind == Item::Kind::place || kind == Item::Kind::strided;
    item.elem_nbytes = copied ? 1 : elem_nbytes(from.dtype);
    return item;
  }

  void add_residents() {
    for (uint32_t i = 0; i < layer_->sources.size(); ++i) {
      const plan::Source& source = layer_->sources[i];
      if (!source.resident || source.from_value) continue;
      uint64_t row = plan::row_nbytes(entry(source.tensor));
      Item item = item_at(Item::Kind::place, entry(source.tensor), source.row_begin * row,
                          source.row_count * row);
      item.to = session_->source_buffer(i);
      push(std::move(item));
    }
  }

  void add_streamed(uint32_t pass) {
    for (uint32_t i = 0; i < layer_->sources.size(); ++i) {
      const plan::Source& source = layer_->sources[i];
      if (source.resident) continue;
      uint64_t row = plan::row_nbytes(entry(source.tensor));
      uint64_t step = plan::rows_per_piece(
          row, source.granule, session_->made_on_gpu() ? flow_.stage_nbytes : flow_.slot_nbytes);
      for (uint64_t done = 0; done < source.row_count; done += step) {
        uint64_t rows = std::min(step, source.row_count - done);
        add_piece(i, pass, done, rows, row);
      }
    }
  }

  void add_piece(uint32_t index, uint32_t pass, uint64_t done, uint64_t rows, uint64_t row) {
    const plan::Source& source = layer_->sources[index];
    bool held = session_->held();
    Item item = item_at(held ? Item::Kind::place : Item::Kind::feed, entry(source.tensor),
                        (source.row_begin + done) * row, rows * row);
    item.feeds = true;
    item.piece.index = index;
    item.piece.pass = pass;
    item.piece.row_begin = source.row_begin + done;
    item.piece.row_count = rows;
    item.piece.row_stride = row;
    item.piece.nbytes = rows * row;
    if (held) {
      item.to = session_->source_buffer(index) + done * row;
      item.piece.at = item.to;
    }
    if (held && pass == 2) return push_from_memory(std::move(item));
    push(std::move(item));
  }

  void add_identities(bool checked) {
    for (uint32_t i = 0; i < layer_->identities.size(); ++i) {
      const plan::Identity& identity = layer_->identities[i];
      if (identity.checked != checked || identity.rows * identity.row_nbytes == 0) continue;
      add_identity(i, identity);
    }
  }

  void add_identity(uint32_t index, const plan::Identity& identity) {
    uint64_t row = identity.row_nbytes;
    bool one_run = identity.rows == 1 || (identity.src_stride == row && identity.dst_stride == row);
    if (one_run && !identity.checked) {
      return push_block(index, identity, 0, identity.rows);
    }
    uint64_t pitch = identity.rows == 1 ? row : identity.src_stride;
    uint64_t limit = one_run ? SlabPages::kWindowNbytes : flow_.slot_nbytes;
    // A span of rows whose gaps are worth reading over; otherwise row by row.
    bool dense = pitch - row <= kMaxGapNbytes && row <= limit;
    uint64_t step =
        dense ? std::max<uint64_t>((limit - row) / std::max(pitch, uint64_t{1}) + 1, 1) : 1;
    for (uint64_t done = 0; done < identity.rows; done += step) {
      push_block(index, identity, done, std::min(step, identity.rows - done));
    }
  }

  /// Rows [first, first+rows) of an identity.
  void push_block(uint32_t index, const plan::Identity& identity, uint64_t first, uint64_t rows) {
    uint64_t row = identity.row_nbytes;
    bool one_run = rows == 1 || (identity.src_stride == row && identity.dst_stride == row);
    uint64_t span = one_run ? rows * row : (rows - 1) * identity.src_stride + row;
    Item item = item_at(one_run ? Item::Kind::place : Item::Kind::strided, entry(identity.tensor),
                        identity.src_offset + first * identity.src_stride, span);
    item.to =
        session_->canonical(identity.stored) + identity.dst_offset + first * identity.dst_stride;
    item.slab = layer_->stored[identity.stored].packed_nbytes == 0;
    item.rows = rows;
    item.row_nbytes = row;
    item.src_stride = identity.src_stride;
    item.dst_stride = identity.dst_stride;
    if (identity.checked) {
      item.feeds = true;
      item.piece.identity = true;
      item.piece.index = index;
      item.piece.row_begin = first;
      item.piece.row_count = rows;
      item.piece.row_stride = rows == 1 ? row : identity.dst_stride;
      item.piece.at = item.to;
      item.piece.nbytes = rows == 1 ? row : (rows - 1) * identity.dst_stride + row;
    }
    push(std::move(item));
  }

  void add_cast(const plan::Cast& cast) {
    const formats::TensorEntry& from = entry(cast.tensor);
    const plan::Stored& stored = layer_->stored[cast.stored];
    uint64_t from_nbytes = layout_of(from.dtype)->block_nbytes;
    uint64_t to_nbytes = layout_of(stored.dtype)->block_nbytes;
    uint64_t step = flow_.slot_nbytes / from_nbytes;
    for (uint64_t done = 0; done < cast.elems; done += step) {
      uint64_t elems = std::min(step, cast.elems - done);
      Item item = item_at(Item::Kind::cast, from, cast.src_offset + done * from_nbytes,
                          elems * from_nbytes);
      item.to = session_->canonical(cast.stored) + cast.dst_offset + done * to_nbytes;
      item.from_dtype = from.dtype;
      item.to_dtype = stored.dtype;
      push(std::move(item));
    }
  }

  void push(Item item) {
    if (item.nbytes != 0) items_.push_back(std::move(item));
  }

  void push_from_memory(Item item) {
    Read read;
    read.feed_nbytes = feed_need(item);
    read.on_gpu = item.session->made_on_gpu();
    read.items.push_back(std::move(item));
    reads_.push_back(std::move(read));
  }

  /// Host memory.
  static uint64_t feed_need(const Item& item) {
    if (!item.feeds || item.session->made_on_gpu()) return 0;
    return plan::round64(item.session->layer().feed_scratch) +
           plan::round64(item.session->statistics_nbytes());
  }

  /// A run of placed items, contiguous in file and memory, that is long enough to be read
  /// straight to its place; otherwise one item goes to the joined reads. Returns the next index.
  size_t place_run(size_t first) {
    const Item& head = items_[first];
    if (head.kind != Item::Kind::place) {
      join(items_[first]);
      return first + 1;
    }
    if (head.feeds) {
      if (head.nbytes < kDirectNbytes)
        join(items_[first]);
      else
        direct(items_[first]);
      return first + 1;
    }
    size_t last = first;
    uint64_t nbytes = head.nbytes;
    while (last + 1 < items_.size()) {
      const Item& next = items_[last + 1];
      bool follows = next.kind == Item::Kind::place && !next.feeds && next.file == head.file &&
                     next.slab == head.slab && next.offset == head.offset + nbytes &&
                     next.to == head.to + nbytes;
      if (!follows) break;
      nbytes += next.nbytes;
      ++last;
    }
    if (nbytes < kDirectNbytes) {
      join(items_[first]);
      return first + 1;
    }
    direct_pieces(head, nbytes);
    return last + 1;
  }

  void direct_pieces(const Item& head, uint64_t nbytes) {
    // Equal shares of whole buffers for a GPU; on the host the windows that pages come in.
    const bool on_gpu = head.session->goes_over();
    const uint64_t shares = on_gpu ? (nbytes + flow_.pinned_nbytes - 1) / flow_.pinned_nbytes : 1;
    const uint64_t share = plan::round_gpu((nbytes + shares - 1) / shares);
    for (uint64_t done = 0; done < nbytes;) {
      auto at = reinterpret_cast<uintptr_t>(head.to) + done;
      uint64_t step = on_gpu ? share : SlabPages::kWindowNbytes - at % SlabPages::kWindowNbytes;
      step = std::min(step, nbytes - done);
      Read read;
      read.file = head.file;
      read.offset = head.offset + done;
      read.nbytes = step;
      read.direct = head.to + done;
      read.on_gpu = on_gpu;
      Item item;
      item.session = head.session;
      item.nbytes = step;
      item.slab = head.slab;
      read.items.push_back(item);
      reads_.push_back(std::move(read));
      done += step;
    }
  }

  void direct(Item item) {
    Read read;
    read.file = item.file;
    read.offset = item.offset;
    read.nbytes = item.nbytes;
    read.direct = item.to;
    read.on_gpu = item.session->goes_over();
    read.feed_nbytes = feed_need(item);
    read.items.push_back(std::move(item));
    reads_.push_back(std::move(read));
  }

  /// Adds the item to the open read through the ring, or opens another one.
  void join(Item item) {
    const bool on_gpu = item.session->made_on_gpu();
    const uint64_t limit = on_gpu ? flow_.stage_nbytes : flow_.slot_nbytes;
    if (item.nbytes > limit) return assemble(std::move(item));
    uint64_t end = joined_.offset + joined_.nbytes;
    bool fits = !joined_.items.empty() && item.file == joined_.file && on_gpu == joined_.on_gpu &&
                (!on_gpu || item.session->gpu() == joined_.items.front().session->gpu()) &&
                item.offset <= end + kMaxGapNbytes &&
                item.offset + item.nbytes - joined_.offset <= limit;
    // A slot is aligned, so what a method sees is aligned if its distance from the start is.
    if (fits) fits = (item.offset - joined_.offset) % item.elem_nbytes == 0;
    if (!fits) {
      flush();
      joined_.file = item.file;
      joined_.offset = item.offset;
      joined_.slot = !on_gpu;
      joined_.on_gpu = on_gpu;
    }
    joined_.nbytes = std::max(joined_.nbytes, item.offset + item.nbytes - joined_.offset);
    joined_.feed_nbytes = std::max(joined_.feed_nbytes, feed_need(item));
    joined_.items.push_back(std::move(item));
  }

  /// Longer than a slot: a granule, or a placed block where slots are small.
  void assemble(Item item) {
    if (item.kind == Item::Kind::place) return direct(std::move(item));
    Read read;
    read.file = item.file;
    read.offset = item.offset;
    read.nbytes = item.nbytes;
    read.assembly_nbytes = plan::round64(item.nbytes);
    read.feed_nbytes = feed_need(item) + read.assembly_nbytes;
    read.items.push_back(std::move(item));
    reads_.push_back(std::move(read));
  }

  void flush() {
    if (!joined_.items.empty()) reads_.push_back(std::move(joined_));
    joined_ = Read{};
  }

  const plan::Plan& plan_;
  const plan::Flow& flow_;
  Phase phase_;
  Session* session_ = nullptr;
  const plan::LayerPlan* layer_ = nullptr;
  std::vector<Item> items_;
  std::vector<Read> reads_;
  Read joined_;
};

}  // namespace

bool begins_early(const plan::LayerPlan& layer) {
  return std::none_of(layer.sources.begin(), layer.sources.end(), [](const plan::Source& source) {
    return source.resident && !source.from_value;
  });
}

std::vector<Read> make_reads(const plan::Plan& plan, const plan::Flow& flow,
                             const std::vector<std::unique_ptr<Session>>& sessions, Phase phase) {
  Builder builder(plan, flow, phase);
  for (const auto& session : sessions) builder.add(*session);
  return builder.finish();
}

}  // namespace loadstone::load
