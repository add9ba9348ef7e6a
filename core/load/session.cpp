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

ls_buffer host_buffer(const std::byte* at, uint64_t nbytes) {
  ls_buffer out{};
  out.struct_size = sizeof(out);
  out.place = LS_PLACE_HOST;
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

ls_source to_abi(const plan::Source& source) {
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
      made_here_(plan::made_on_host(plan, layer)) {}

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

Status Session::allocate(MemoryAccount& account) {
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
  return layer_.stored[stored].packed_nbytes != 0 ? canonical_[stored].data() : stored_[stored];
}

Status Session::begin() {
  if (state_ != State::fresh || !active()) return out_of_order("begin");
  arrays_ = std::make_unique<Arrays>(
      Arrays{plan::LayerView(plan_, layer_), {}, {}, {}, {}, {}, {}, ls_begin{}});
  Arrays& a = *arrays_;
  for (size_t i = 0; i < layer_.sources.size(); ++i) {
    const plan::Source& source = layer_.sources[i];
    a.sources.push_back(to_abi(source));
    const std::byte* at = source.resident ? buffers_[i].data() : nullptr;
    uint64_t row = plan::row_nbytes(plan_.entry_of(layer_, source.tensor));
    for (const plan::Value& value : layer_.values) {
      if (source.from_value && value.tensor == source.tensor) {
        at = value.bytes->data() + source.row_begin * row;
      }
    }
    a.residents.push_back(host_buffer(at, source.row_count * row));
  }
  a.source_pointers = pointers_to(a.sources);
  a.resident_pointers = pointers_to(a.residents);
  for (size_t i = 0; i < layer_.sources.size(); ++i) {
    if (!layer_.sources[i].resident) a.resident_pointers[i] = nullptr;
  }
  for (uint32_t i = 0; i < layer_.method_stored; ++i) {
    a.stored.push_back(host_buffer(canonical(i), layer_.stored[i].nbytes));
  }
  a.stored_pointers = pointers_to(a.stored);
  a.begin.struct_size = sizeof(a.begin);
  a.begin.place = LS_PLACE_HOST;
  a.begin.group_count = std::max<uint32_t>(plan_.layer_of(layer_).groups, 1);
  a.begin.note = layer_.note;
  a.begin.sources = a.source_pointers.data();
  a.begin.resident = a.resident_pointers.data();
  a.begin.source_count = a.sources.size();
  a.begin.stored = a.stored_pointers.data();
  a.begin.stored_count = a.stored.size();
  a.begin.scratch = scratch_.data();
  const ls_method& table = layer_.config->method().table();
  if (table.begin == nullptr || table.end == nullptr || table.abort == nullptr) {
    return Error{Code::internal, "method can't produce", std::string(table.name),
                 "found no begin, end or abort", ""};
  }
  LS_CHECK(call("begin", [&] {
    return table.begin(layer_.config->handle(), &a.view.get(), &a.begin, &session_);
  }));
  state_ = State::begun;
  return {};
}

Status Session::feed(const Piece& piece, std::byte* scratch, std::byte* statistics) {
  if (state_ != State::begun) return out_of_order("feed");
  const ls_method& table = layer_.config->method().table();
  if (table.feed == nullptr) return out_of_order("feed (the method has none)");
  uint64_t stat_nbytes = statistics_nbytes();
  ls_piece out{};
  out.struct_size = sizeof(out);
  out.source = piece.identity ? UINT32_MAX : piece.index;
  out.identity = piece.identity ? piece.index : UINT32_MAX;
  out.pass = piece.pass;
  out.place = LS_PLACE_HOST;
  out.tag = piece.identity ? layer_.identities[piece.index].tag : layer_.sources[piece.index].tag;
  out.row_begin = piece.row_begin;
  out.row_count = piece.row_count;
  out.row_stride = piece.row_stride;
  out.at = piece.at;
  out.nbytes = piece.nbytes;
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

Status Session::end() {
  if (state_ != State::begun) return out_of_order("end");
  // `end` frees the session whatever it answers.
  state_ = State::done;
  const ls_method& table = layer_.config->method().table();
  LS_CHECK(call("end", [&] {
    return table.end(std::exchange(session_, nullptr),
                     statistics_nbytes() == 0 ? nullptr : statistics_.data(), 0);
  }));
  return repack();
}

Status Session::repack() {
  const plugin::MethodConfig& config = *layer_.config;
  for (uint32_t i = 0; i < layer_.stored.size(); ++i) {
    const plan::Stored& stored = layer_.stored[i];
    if (stored.packed_nbytes == 0) continue;
    if (config.method().table().repack == nullptr)
      return out_of_order("repack (the method has none)");
    ls_buffer canonical_bytes = host_buffer(canonical_[i].data(), stored.nbytes);
    ls_buffer packed_bytes = host_buffer(stored_[i], stored.packed_nbytes);
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
