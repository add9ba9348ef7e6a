#include "load/session.hpp"

#include <algorithm>
#include <cstring>

#include "base/text.hpp"
#include "plan/flow.hpp"

namespace loadstone::load {

struct Session::Arrays {
  plan::LayerView view;
  std::vector<ls_source> sources;
  std::vector<const ls_source*> source_pointers;
  std::vector<ls_buffer> residents;
  std::vector<const ls_buffer*> resident_pointers;
  std::vector<ls_buffer> stored;
  std::vector<const ls_buffer*> stored_pointers;
  ls_begin begin{};
};

namespace {

ls_buffer buffer_at(uint32_t place, const std::byte* at, uint64_t nbytes) {
  ls_buffer out{};
  out.struct_size = sizeof(out);
  out.place = place;
  out.at = const_cast<std::byte*>(at);
  out.nbytes = nbytes;
  return out;
}

template <typename T>
std::vector<const T*> pointers_to(const std::vector<T>& values) {
  std::vector<const T*> out;
  for (const T& value : values) out.push_back(&value);
  return out;
}

ls_source source_of(const plan::Source& source) {
  ls_source out{};
  out.struct_size = sizeof(out);
  out.tensor = source.tensor;
  out.mode = source.from_value ? LS_SOURCE_NEEDS_VALUE
             : source.resident ? LS_SOURCE_RESIDENT
                               : LS_SOURCE_STREAMED;
  out.tag = source.tag;
  out.row_begin = source.row_begin;
  out.row_count = source.row_count;
  out.granule = source.granule;
  return out;
}

}  // namespace

Session::Session(const plan::Plan& plan, const plan::LayerPlan& layer,
                 std::vector<std::byte*> stored)
    : plan_(plan),
      layer_(layer),
      stored_(std::move(stored)),
      gpu_(plan.slabs[plan.layer_of(layer).component].target.index),
      made_here_(plan::made_on_host(plan, layer)),
      made_on_gpu_(plan::made_on_gpu(plan, layer)) {}

ls_buffer Session::buffer(const std::byte* at, uint64_t nbytes) const {
  return buffer_at(made_on_gpu_ ? LS_PLACE_CUDA : LS_PLACE_HOST, at, nbytes);
}

Status Session::deliver(device::Courier& courier) {
  for (size_t i = 0; i < made_.size(); ++i) {
    LS_CHECK(courier.copy(sent_to_[i], made_[i].data(), layer_.stored[i].slab_nbytes()));
  }
  return {};
}

Session::~Session() { release(); }

void Session::release() {
  if (state_ == State::begun && session_ != nullptr) {
    const ls_method& table = layer_.config->method().table();
    plugin::call_plugin([&] {
      table.abort(session_);
      return LS_OK;
    });
  }
  session_ = nullptr;
  state_ = State::done;
}

uint64_t Session::statistics_nbytes() const {
  if (layer_.passes != 2) return 0;
  return layer_.stat_nbytes * std::max<uint32_t>(plan_.layer_of(layer_).groups, 1);
}

Error Session::out_of_order(const char* call) const {
  return Error{Code::internal, std::string(call) + " out of order",
               escaped(plan_.layer_of(layer_).path), "", ""};
}

template <typename Call>
Status Session::call(const char* name, Call&& function) const {
  int32_t status = plugin::call_plugin(std::forward<Call>(function));
  if (status == LS_OK) return {};
  return plugin::check_call(status, layer_.config->method(), name, path());
}

void Session::place_on_gpu(const plan::Flow& flow, const GpuRoom& room) {
  trouble_ = room.trouble;
  std::byte* at = room.at;
  const auto take = [&](uint64_t nbytes) {
    std::byte* const out = nbytes == 0 ? nullptr : at;
    at += plan::round_gpu(nbytes);
    return out;
  };
  gpu_scratch_ = take(layer_.session_scratch);
  for (const plan::Source& source : layer_.sources) {
    const uint64_t row = plan::row_nbytes(plan_.entry_of(layer_, source.tensor));
    gpu_buffers_.push_back(take(!source.resident && held() ? source.row_count * row : 0));
  }
  if (layer_.passes != 2) return;
  gpu_statistics_ =
      take(plan::round64(statistics_nbytes()) * (plan::statistics_blocks(plan_, layer_, flow) + 1));
}

Status Session::allocate(MemoryAccount& account, const plan::Flow& flow, const GpuRoom& room) {
  if (made_on_gpu_) {
    place_on_gpu(flow, room);
    LS_TRY(statistics_, Block::allocate(account, statistics_nbytes()));
    if (statistics_.nbytes() != 0) std::memset(statistics_.data(), 0, statistics_.nbytes());
    return {};
  }
  for (const plan::Source& source : layer_.sources) {
    bool keep = (source.resident && !source.from_value) || (!source.resident && held());
    uint64_t nbytes =
        keep ? source.row_count * plan::row_nbytes(plan_.entry_of(layer_, source.tensor)) : 0;
    LS_TRY(Block block, Block::allocate(account, nbytes));
    buffers_.push_back(std::move(block));
  }
  for (const plan::Stored& stored : layer_.stored) {
    LS_TRY(Block block, Block::allocate(account, stored.packed_nbytes != 0 ? stored.nbytes : 0));
    canonical_.push_back(std::move(block));
  }
  if (made_here_) {
    sent_to_ = stored_;
    for (uint32_t i = 0; i < layer_.stored.size(); ++i) {
      LS_TRY(Block block, Block::allocate(account, layer_.stored[i].slab_nbytes()));
      stored_[i] = block.data();
      made_.push_back(std::move(block));
    }
  }
  if (!active()) return {};
  LS_TRY(scratch_, Block::allocate(account, layer_.session_scratch));
  LS_TRY(statistics_, Block::allocate(account, statistics_nbytes()));
  if (statistics_.nbytes() != 0) std::memset(statistics_.data(), 0, statistics_.nbytes());
  return {};
}

std::byte* Session::canonical(uint32_t stored) const {
  return layer_.stored[stored].packed_nbytes != 0 && !made_on_gpu_ ? canonical_[stored].data()
                                                                   : stored_[stored];
}

Status Session::begin(device::Courier* courier) {
  courier_ = courier;
  if (state_ != State::fresh || !active()) return out_of_order("begin");
  arrays_ = std::make_unique<Arrays>(
      Arrays{plan::LayerView(plan_, layer_), {}, {}, {}, {}, {}, {}, ls_begin{}});
  Arrays& a = *arrays_;
  for (size_t i = 0; i < layer_.sources.size(); ++i) {
    const plan::Source& source = layer_.sources[i];
    a.sources.push_back(source_of(source));
    const std::byte* at = source.resident && !made_on_gpu_ ? buffers_[i].data() : nullptr;
    uint64_t row = plan::row_nbytes(plan_.entry_of(layer_, source.tensor));
    for (const plan::Value& value : layer_.values) {
      if (source.from_value && value.tensor == source.tensor) {
        at = value.bytes->data() + source.row_begin * row;
      }
    }
    a.residents.push_back(buffer_at(LS_PLACE_HOST, at, source.row_count * row));
  }
  a.source_pointers = pointers_to(a.sources);
  a.resident_pointers = pointers_to(a.residents);
  for (size_t i = 0; i < layer_.sources.size(); ++i) {
    if (!layer_.sources[i].resident) a.resident_pointers[i] = nullptr;
  }
  for (uint32_t i = 0; i < layer_.method_stored; ++i) {
    a.stored.push_back(buffer(canonical(i), layer_.stored[i].nbytes));
  }
  a.stored_pointers = pointers_to(a.stored);
  a.begin.struct_size = sizeof(a.begin);
  a.begin.place = made_on_gpu_ ? LS_PLACE_CUDA : LS_PLACE_HOST;
  a.begin.group_count = std::max<uint32_t>(plan_.layer_of(layer_).groups, 1);
  a.begin.note = layer_.note;
  a.begin.sources = a.source_pointers.data();
  a.begin.resident = a.resident_pointers.data();
  a.begin.source_count = a.sources.size();
  a.begin.stored = a.stored_pointers.data();
  a.begin.stored_count = a.stored.size();
  a.begin.scratch = made_on_gpu_ ? gpu_scratch_ : scratch_.data();
  a.begin.stream = made_on_gpu_ ? courier_->side() : nullptr;
  a.begin.trouble = trouble_;
  const ls_method& table = layer_.config->method().table();
  if (table.begin == nullptr || table.end == nullptr || table.abort == nullptr) {
    return Error{Code::internal, "method can't produce", std::string(table.name),
                 "found no begin, end or abort", ""};
  }
  LS_CHECK(call("begin", [&] {
    return table.begin(layer_.config->handle(), &a.view.get(), &a.begin, &session_);
  }));
  state_ = State::begun;
  // Feeds come on other streams.
  return made_on_gpu_ ? courier_->finish_side() : Status();
}

ls_piece Session::piece_of(const Piece& piece) const {
  ls_piece out{};
  out.struct_size = sizeof(out);
  out.source = piece.identity ? UINT32_MAX : piece.index;
  out.identity = piece.identity ? piece.index : UINT32_MAX;
  out.pass = piece.pass;
  out.place = made_on_gpu_ ? LS_PLACE_CUDA : LS_PLACE_HOST;
  out.tag = piece.identity ? layer_.identities[piece.index].tag : layer_.sources[piece.index].tag;
  out.row_begin = piece.row_begin;
  out.row_count = piece.row_count;
  out.row_stride = piece.row_stride;
  out.at = piece.at;
  out.nbytes = piece.nbytes;
  return out;
}

Status Session::feed(const Piece& piece, std::byte* scratch, std::byte* statistics) {
  if (state_ != State::begun) return out_of_order("feed");
  const ls_method& table = layer_.config->method().table();
  if (table.feed == nullptr) return out_of_order("feed (the method has none)");
  uint64_t stat_nbytes = statistics_nbytes();
  ls_piece out = piece_of(piece);
  out.scratch = layer_.feed_scratch == 0 ? nullptr : scratch;
  bool gathers = piece.pass == 1 && stat_nbytes != 0;
  if (gathers) std::memset(statistics, 0, stat_nbytes);
  out.stat = gathers           ? static_cast<void*>(statistics)
             : piece.pass == 2 ? statistics_.data()
                               : nullptr;
  LS_CHECK(call("feed", [&] { return table.feed(session_, &out); }));
  if (!gathers) return {};
  if (table.merge == nullptr) return out_of_order("merge (the method has none)");
  std::lock_guard lock(merging_);
  return call("merge", [&] { return table.merge(session_, statistics_.data(), statistics); });
}

Status Session::feed_on_gpu(const Piece& piece, device::Courier& courier, std::byte* scratch) {
  if (state_ != State::begun || !made_on_gpu_) return out_of_order("feed");
  const ls_method& table = layer_.config->method().table();
  if (table.feed == nullptr) return out_of_order("feed (the method has none)");
  const uint64_t block = plan::round64(statistics_nbytes());
  ls_piece out = piece_of(piece);
  out.stream = courier.stream();
  out.scratch = layer_.feed_scratch == 0 ? nullptr : scratch;
  if (piece.pass == 1 && block != 0) {
    std::byte* const own = gpu_statistics_ + block * ++blocks_used_;
    LS_CHECK(courier.zero(own, block));
    out.stat = own;
  } else if (piece.pass == 2) {
    out.stat = gpu_statistics_;
  }
  return call("feed", [&] { return table.feed(session_, &out); });
}

Status Session::merge_on_gpu() {
  const uint64_t block = plan::round64(statistics_nbytes());
  if (block == 0) return {};
  const ls_method& table = layer_.config->method().table();
  if (table.merge == nullptr) return out_of_order("merge (the method has none)");
  const auto gpu = static_cast<uint32_t>(gpu_);
  std::vector<std::byte> found(block * blocks_used_);
  LS_CHECK(device::read_back(gpu, gpu_statistics_ + block, found.data(), found.size()));
  for (uint64_t at = 0; at < found.size(); at += block) {
    LS_CHECK(call("merge",
                  [&] { return table.merge(session_, statistics_.data(), found.data() + at); }));
  }
  return device::write(gpu, gpu_statistics_, statistics_.data(), statistics_nbytes());
}

Status Session::end() {
  if (state_ != State::begun) return out_of_order("end");
  // `end` frees the session whatever it answers.
  state_ = State::done;
  const ls_method& table = layer_.config->method().table();
  LS_CHECK(call("end", [&] {
    return table.end(std::exchange(session_, nullptr),
                     statistics_nbytes() == 0 ? nullptr : statistics_.data(),
                     trouble_ == nullptr ? 0 : *trouble_);
  }));
  return made_on_gpu_ ? courier_->finish_side() : repack();
}

Status Session::repack() {
  const plugin::MethodConfig& config = *layer_.config;
  for (uint32_t i = 0; i < layer_.stored.size(); ++i) {
    const plan::Stored& stored = layer_.stored[i];
    if (stored.packed_nbytes == 0) continue;
    if (config.method().table().repack == nullptr)
      return out_of_order("repack (the method has none)");
    ls_buffer canonical_bytes = buffer(canonical_[i].data(), stored.nbytes);
    ls_buffer packed_bytes = buffer(stored_[i], stored.packed_nbytes);
    LS_CHECK(call("repack", [&] {
      return config.method().table().repack(config.handle(), &arrays_->view.get(),
                                            stored.packed_wish, 0, &canonical_bytes, &packed_bytes,
                                            nullptr);
    }));
    canonical_[i] = Block();
  }
  return {};
}

}  // namespace loadstone::load
