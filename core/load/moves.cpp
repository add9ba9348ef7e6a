#include "load/moves.hpp"

#include <algorithm>
#include <cstring>

#include "base/text.hpp"
#include "load/cast.hpp"
#include "plan/flow.hpp"

namespace loadstone::load {

namespace {

/// `working`: scratch of the feed, then room for its statistics.
Status feed(const Item& item, const std::byte* at, std::byte* working) {
  Piece piece = item.piece;
  if (piece.at == nullptr) piece.at = at;
  std::byte* statistics = working + plan::round64(item.session->layer().feed_scratch);
  return item.session->feed(piece, working, statistics);
}

}  // namespace

Status Mover::follow(const Read& read, std::byte* slot, EngineTotals& totals, Couriers& couriers) {
  if (read.on_gpu) return bring_over(read, totals, couriers);
  Block assembly, working;
  std::byte* into = read.direct != nullptr ? read.direct : slot;
  if (read.assembly_nbytes != 0) {
    LS_TRY(assembly, Block::allocate(account_, read.assembly_nbytes));
    into = assembly.data();
  }
  if (read.nbytes != 0) {
    auto start = Clock::now();
    bool fresh = read.direct != nullptr && read.items.front().slab;
    if (fresh && pages_ != nullptr) pages_->prepare(read.direct, read.nbytes);
    const File& file = *plan_.checkpoint->files[read.file].file;
    LS_CHECK(file.read_exact({into, read.nbytes}, read.offset));
    totals.read_seconds += seconds_since(start);
    totals.read_nbytes += read.nbytes;
    totals.reads += 1;
  }
  auto start = Clock::now();
  for (const Item& item : read.items) {
    const std::byte* at = read.nbytes == 0 ? nullptr : into + (item.offset - read.offset);
    if (read.direct == nullptr && read.nbytes != 0) LS_CHECK(put(item, at, couriers));
    if (!item.feeds) continue;
    if (working.data() == nullptr) {
      LS_TRY(working, Block::allocate(account_, read.feed_nbytes - read.assembly_nbytes));
    }
    LS_CHECK(feed(item, at, working.data()));
    totals.fed_nbytes += item.piece.nbytes;
  }
  totals.feed_seconds += seconds_since(start);
  return {};
}

/// A read that goes straight to its place on a GPU or to the thread's staging memory there, by
/// way of its pinned buffers; then what its items ask for, in stream order.
Status Mover::bring_over(const Read& read, EngineTotals& totals, Couriers& couriers) {
  LS_TRY(device::Courier * courier, gpus_.courier(couriers, read.items.front().session->gpu()));
  std::byte* const into = read.direct != nullptr ? read.direct : courier->stage();
  if (read.nbytes != 0) {
    const auto gpu = static_cast<uint32_t>(read.items.front().session->gpu());
    LS_TRY(device::PinnedMapping * mapped, gpus_.mapping(gpu, read.file));
    LS_CHECK(mapped == nullptr ? send(read, into, *courier, totals)
                               : send_mapped(read, into, *courier, *mapped, totals));
    totals.read_nbytes += read.nbytes;
    totals.reads += 1;
  }
  auto start = Clock::now();
  for (const Item& item : read.items) {
    const std::byte* at = into + (read.nbytes == 0 ? 0 : item.offset - read.offset);
    if (read.direct == nullptr && item.kind == Item::Kind::place && read.nbytes != 0) {
      LS_CHECK(courier->copy_within(item.to, at, item.nbytes));
    }
    if (!item.feeds) continue;
    Piece piece = item.piece;
    if (piece.at == nullptr) piece.at = at;
    LS_CHECK(item.session->feed_on_gpu(piece, *courier, courier->stage() + flow_.stage_nbytes));
    totals.fed_nbytes += piece.nbytes;
  }
  totals.feed_seconds += seconds_since(start);
  return {};
}

Status Mover::send(const Read& read, std::byte* into, device::Courier& courier,
                   EngineTotals& totals) {
  const File& file = *plan_.checkpoint->files[read.file].file;
  for (uint64_t done = 0; done < read.nbytes;) {
    uint64_t step = std::min(courier.buffer_nbytes(), read.nbytes - done);
    LS_TRY(std::byte * buffer, courier.buffer());
    auto start = Clock::now();
    LS_CHECK(file.read_exact({buffer, step}, read.offset + done));
    totals.read_seconds += seconds_since(start);
    LS_CHECK(courier.send(into + done, step));
    done += step;
  }
  return {};
}

Status Mover::send_mapped(const Read& read, std::byte* into, device::Courier& courier,
                          device::PinnedMapping& file, EngineTotals& totals) {
  const auto start = Clock::now();
  for (uint64_t done = 0; done < read.nbytes;) {
    LS_TRY(const auto bytes, file.at(read.offset + done, read.nbytes - done));
    LS_CHECK(courier.send_pinned(into + done, bytes));
    done += bytes.size();
  }
  totals.pin_seconds += seconds_since(start);
  return {};
}

Status Mover::put(const Item& item, const std::byte* at, Couriers& couriers) {
  switch (item.kind) {
    case Item::Kind::place:
      if (item.session->goes_over()) {
        LS_TRY(device::Courier * courier, gpus_.courier(couriers, item.session->gpu()));
        return courier->copy(item.to, at, item.nbytes);
      }
      std::memcpy(item.to, at, item.nbytes);
      break;
    case Item::Kind::strided:
      for (uint64_t row = 0; row < item.rows; ++row) {
        std::memcpy(item.to + row * item.dst_stride, at + row * item.src_stride, item.row_nbytes);
      }
      break;
    case Item::Kind::cast:
      if (!cast(at, item.from_dtype, item.to, item.to_dtype,
                item.nbytes / layout_of(item.from_dtype)->block_nbytes)) {
        return Error{Code::invalid_checkpoint, "value out of range of the load dtype",
                     escaped(item.session->path()),
                     "found " + std::string(name_of(item.from_dtype)) + " values that " +
                         std::string(name_of(item.to_dtype)) + " can't hold",
                     ""};
      }
      break;
    case Item::Kind::feed:
      break;
  }
  return {};
}

}  // namespace loadstone::load
