#include "conformance/engine.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <loadstone/plugin/floats.hpp>
#include <mutex>
#include <thread>

#include "base/dtype.hpp"

namespace loadstone::conformance {

namespace {

using plugin::call_plugin;
using plugin::check_call;
using plugin::LayerAnswer;
using plugin::MethodConfig;

uint64_t nbytes_of(const ls_stored& stored) {
  const auto layout = layout_of(static_cast<DType>(stored.dtype));
  uint64_t elems = 1;
  for (uint32_t axis = 0; axis < stored.rank; ++axis) elems *= stored.shape[axis];
  return elems / layout->block_elems * layout->block_nbytes;  // the answer was checked
}

/// One feed: rows of a source, or the rows of a checked identity.
struct Piece {
  uint32_t source = 0, identity = 0, tensor = 0;
  uint64_t tag = 0, row_begin = 0, row_count = 0;
  uint64_t offset = 0, stride = 0, row_nbytes = 0;  // in the tensor
};

class Production {
 public:
  Production(const MethodConfig& config, const CaseView& view, const LayerAnswer& answer,
             const Feeding& feeding)
      : config_(config),
        method_(config.method()),
        layer_(view.get()),
        source_(view.source()),
        answer_(answer),
        feeding_(feeding),
        arena_(feeding.sizes),
        random_(feeding.seed) {
    for (const CaseTensor& tensor : source_.tensors) originals_.push_back(tensor.bytes);
  }

  Result<Produced> run() {
    allocate();
    place_identities();
    const uint32_t groups = std::max<uint32_t>(source_.groups, 1);
    const uint32_t step = feeding_.by_group ? 1 : groups;
    for (uint32_t first = 0; first < groups && !out_.aborted; first += step) {
      if (method_.table().begin != nullptr) LS_CHECK(session(first, step));
    }
    for (const Guarded& stored : out_.stored) LS_CHECK(stored.check());
    for (size_t i = 0; i < originals_.size(); ++i) {
      if (originals_[i] != source_.tensors[i].bytes) {
        return Error{Code::internal, "source overwritten", source_.tensors[i].name,
                     "found other bytes after producing", ""};
      }
    }
    return std::move(out_);
  }

 private:
  const LayerCase& layer() const { return source_; }

  void allocate() {
    for (size_t i = 0; i < answer_.stored.size(); ++i) {
      const ls_stored& stored = answer_.stored[i];
      out_.stored.emplace_back("stored \"" + answer_.stored_names[i] + "\"", nbytes_of(stored),
                               stored.align == 0 ? 64 : stored.align, 0, feeding_.fill);
    }
  }

  void place_identities() {
    for (const ls_identity& one : answer_.identities) {
      const std::byte* from = source_.tensors[one.tensor].bytes.data() + one.src_offset;
      std::byte* to = out_.stored[one.stored].data() + one.dst_offset;
      for (uint64_t row = 0; row < one.rows; ++row) {
        std::memcpy(to + row * one.dst_stride, from + row * one.src_stride, one.row_nbytes);
      }
    }
  }

  bool in_session(uint32_t tensor, uint32_t first, uint32_t count) const {
    const uint32_t group = source_.tensors[tensor].group;
    return group >= first && group < first + count;
  }

  std::vector<Piece> pieces_of(uint32_t first, uint32_t count) {
    std::vector<Piece> out;
    for (uint32_t i = 0; i < answer_.sources.size(); ++i) {
      const ls_source& source = answer_.sources[i];
      if (source.mode != LS_SOURCE_STREAMED || !in_session(source.tensor, first, count)) continue;
      const uint64_t row_nbytes = source_.tensors[source.tensor].row_nbytes();
      Piece whole{i,
                  0,
                  source.tensor,
                  source.tag,
                  source.row_begin,
                  source.row_count,
                  source.row_begin * row_nbytes,
                  row_nbytes,
                  row_nbytes};
      cut(whole, source.granule, out);
    }
    for (uint32_t i = 0; i < answer_.identities.size(); ++i) {
      const ls_identity& one = answer_.identities[i];
      if (one.checked == 0 || !in_session(one.tensor, first, count)) continue;
      Piece whole{
          UINT32_MAX,    i, one.tensor, one.tag, 0, one.rows, one.src_offset, one.src_stride,
          one.row_nbytes};
      cut(whole, 1, out);
    }
    if (feeding_.cut != Cut::whole) {
      for (size_t i = out.size(); i > 1; --i) std::swap(out[i - 1], out[random_.below(i)]);
    }
    return out;
  }

  void cut(const Piece& whole, uint64_t granule, std::vector<Piece>& out) {
    uint64_t done = 0;
    while (done < whole.row_count) {
      uint64_t granules = (whole.row_count + granule - 1) / granule;
      if (feeding_.cut == Cut::granules) granules = 1;
      if (feeding_.cut == Cut::random) {
        granules = 1 + random_.below(std::min<uint64_t>(granules, 9));
      }
      Piece piece = whole;
      piece.row_begin += done;
      piece.offset += done * whole.stride;
      piece.row_count = std::min(granules * granule, whole.row_count - done);
      done += piece.row_count;
      out.push_back(piece);
    }
  }

  Status session(uint32_t first, uint32_t count) {
    LS_CHECK(make_residents(first, count));
    const ls_work& work = answer_.work;
    Guarded scratch("session scratch", work.session_scratch, 64, 0, feeding_.fill);
    ls_session* handle = nullptr;
    const ls_begin* begin = make_begin(first, count, scratch);
    const int32_t status = call_plugin(
        [&] { return method_.table().begin(config_.handle(), &layer_, begin, &handle); });
    LS_CHECK(check_call(status, method_, "begin", source_.title));
    if (handle == nullptr) {
      return Error{Code::internal, "begin gave no session", source_.title, "", ""};
    }
    Guarded total("statistics", work.stat_nbytes * count, 64, 0, 0);
    const uint32_t passes = std::max<uint32_t>(work.passes, 1);
    Status fed;
    for (uint32_t pass = 1; pass <= passes && fed.ok() && !out_.aborted; ++pass) {
      fed = feed_all(handle, pieces_of(first, count), pass, passes, count, total);
    }
    if (!fed.ok() || out_.aborted) {
      method_.table().abort(handle);
      LS_CHECK(fed);
    } else {
      const void* stat = work.stat_nbytes == 0 ? nullptr : total.data();
      const int32_t ended = call_plugin([&] { return method_.table().end(handle, stat, 0); });
      LS_CHECK(check_call(ended, method_, "end", source_.title));
    }
    LS_CHECK(scratch.check());
    LS_CHECK(total.check());
    for (const Guarded& buffer : residents_) LS_CHECK(buffer.check());
    return {};
  }

  Status make_residents(uint32_t first, uint32_t count) {
    residents_.clear();
    resident_pointers_.clear();
    for (const ls_source& source : answer_.sources) {
      if (source.mode == LS_SOURCE_STREAMED || !in_session(source.tensor, first, count)) {
        resident_pointers_.push_back(nullptr);
        continue;
      }
      const CaseTensor& tensor = source_.tensors[source.tensor];
      const uint64_t row_nbytes = tensor.row_nbytes();
      Guarded copy("resident \"" + tensor.name + "\"", source.row_count * row_nbytes);
      std::memcpy(copy.data(), tensor.bytes.data() + source.row_begin * row_nbytes, copy.nbytes());
      resident_pointers_.push_back(arena_.put(buffer_of(copy)));
      residents_.push_back(std::move(copy));
    }
    return {};
  }

  static ls_buffer buffer_of(const Guarded& memory) {
    ls_buffer out{};
    out.struct_size = sizeof out;
    out.place = LS_PLACE_HOST;
    out.at = memory.data();
    out.nbytes = memory.nbytes();
    return out;
  }

  const ls_begin* make_begin(uint32_t first, uint32_t count, const Guarded& scratch) {
    std::vector<const ls_source*> sources;
    for (const ls_source& source : answer_.sources) sources.push_back(arena_.put(source));
    ls_begin out{};
    out.struct_size = sizeof out;
    out.place = LS_PLACE_HOST;
    out.group_begin = first;
    out.group_count = count;
    out.note = answer_.work.note;
    out.source_count = sources.size();
    out.sources = arena_.array(sources);
    out.resident = arena_.array(resident_pointers_);
    out.stored = buffers_of(arena_, out_);
    out.stored_count = out_.stored.size();
    out.scratch = scratch.data();
    return arena_.put(out);
  }

  Status feed_all(ls_session* handle, const std::vector<Piece>& pieces, uint32_t pass,
                  uint32_t passes, uint32_t groups, Guarded& total) {
    std::atomic<size_t> next{0};
    std::mutex mutex;
    Status failed;
    const auto worker = [&] {
      while (true) {
        const size_t i = next.fetch_add(1);
        if (i >= pieces.size()) return;
        {
          const std::lock_guard lock(mutex);
          if (!failed.ok()) return;
          if (feeding_.stop_after && out_.feeds >= *feeding_.stop_after) {
            out_.aborted = true;
            return;
          }
          ++out_.feeds;
        }
        Status one = feed_one(handle, pieces[i], pass, passes, groups, total, mutex);
        const std::lock_guard lock(mutex);
        if (failed.ok() && !one.ok()) failed = std::move(one);
      }
    };
    std::vector<std::thread> others;
    for (unsigned t = 1; t < feeding_.threads; ++t) others.emplace_back(worker);
    worker();
    for (std::thread& other : others) other.join();
    if (pieces.empty() && feeding_.stop_after && *feeding_.stop_after == 0) out_.aborted = true;
    return failed;
  }

  Status feed_one(ls_session* handle, const Piece& piece, uint32_t pass, uint32_t passes,
                  uint32_t groups, Guarded& total, std::mutex& mutex) {
    const ls_work& work = answer_.work;
    const CaseTensor& tensor = source_.tensors[piece.tensor];
    const uint64_t item = item_nbytes(tensor.dtype);
    const uint64_t stride = feeding_.awkward
                                ? (piece.row_nbytes + item - 1) / item * item + 3 * item
                                : piece.row_nbytes;
    Guarded bytes("piece of \"" + tensor.name + "\"", piece.row_count * stride,
                  feeding_.awkward ? item : 64);
    for (uint64_t row = 0; row < piece.row_count; ++row) {
      std::memcpy(bytes.data() + row * stride,
                  tensor.bytes.data() + piece.offset + row * piece.stride, piece.row_nbytes);
    }
    Guarded scratch("feed scratch", work.feed_scratch, 64, 0, feeding_.fill);
    const bool gathers = passes == 2 && pass == 1;
    Guarded stat("feed statistics", gathers ? work.stat_nbytes * groups : 0, 64, 0, 0);
    ls_piece out{};
    out.struct_size = sizeof out;
    out.source = piece.source;
    out.identity = piece.identity;
    out.pass = pass;
    out.place = LS_PLACE_HOST;
    out.tag = piece.tag;
    out.row_begin = piece.row_begin;
    out.row_count = piece.row_count;
    out.row_stride = stride;
    out.at = bytes.data();
    out.nbytes = bytes.nbytes();
    out.scratch = scratch.data();
    out.stat = passes != 2 ? nullptr : gathers ? stat.data() : total.data();
    Arena arena(feeding_.sizes);
    const ls_piece* handed = arena.put(out);
    const std::vector<std::byte> before(bytes.bytes().begin(), bytes.bytes().end());
    const int32_t status = call_plugin([&] { return method_.table().feed(handle, handed); });
    LS_CHECK(check_call(status, method_, "feed", source_.title));
    LS_CHECK(bytes.check());
    LS_CHECK(scratch.check());
    LS_CHECK(stat.check());
    if (!std::equal(before.begin(), before.end(), bytes.data())) {
      return Error{Code::internal, "piece overwritten", source_.title, "found other bytes", ""};
    }
    if (!gathers || method_.table().merge == nullptr) return {};
    const std::lock_guard lock(mutex);
    const int32_t merged =
        call_plugin([&] { return method_.table().merge(handle, total.data(), stat.data()); });
    return check_call(merged, method_, "merge", source_.title);
  }

  static uint64_t item_nbytes(uint32_t dtype) {
    const auto layout = layout_of(static_cast<DType>(dtype));
    return layout && layout->block_elems == 1 ? layout->block_nbytes : 1;
  }

  const MethodConfig& config_;
  const plugin::Method& method_;
  const ls_layer& layer_;
  const LayerCase& source_;
  const LayerAnswer& answer_;
  const Feeding& feeding_;
  Arena arena_;
  Random random_;
  Produced out_;
  std::vector<Guarded> residents_;
  std::vector<const ls_buffer*> resident_pointers_;
  std::vector<std::vector<std::byte>> originals_;
};

}  // namespace

const ls_buffer* const* buffers_of(Arena& arena, const Produced& produced) {
  std::vector<const ls_buffer*> pointers;
  for (const Guarded& stored : produced.stored) {
    ls_buffer out{};
    out.struct_size = sizeof out;
    out.place = LS_PLACE_HOST;
    out.at = stored.data();
    out.nbytes = stored.nbytes();
    pointers.push_back(arena.put(out));
  }
  return arena.array(pointers);
}

Result<LayerAnswer> ask(const MethodConfig& config, CaseView& view, const StructSizes* sizes) {
  Arena arena(sizes);
  ls_target target{};
  target.struct_size = sizeof target;
  target.kind = LS_TARGET_CPU;
  target.name = "cpu";
  const ls_target* handed = arena.put(target);
  for (size_t round = 0; round <= view.source().tensors.size(); ++round) {
    LS_TRY(LayerAnswer answer, plugin::ask_plan(config, view.plain(), *handed, &view.get()));
    bool missing = false;
    for (const ls_source& source : answer.sources) {
      if (source.mode != LS_SOURCE_NEEDS_VALUE) continue;
      if (view.has_value(source.tensor)) continue;
      view.set_value(source.tensor);
      missing = true;
    }
    if (!missing) return answer;
  }
  return Error{Code::internal, "method asks for values without end", view.source().title, "", ""};
}

Result<Produced> produce(const MethodConfig& config, const CaseView& view,
                         const LayerAnswer& answer, const Feeding& feeding) {
  return Production(config, view, answer, feeding).run();
}

Result<std::vector<float>> dequantize(const MethodConfig& config, const CaseView& view,
                                      const LayerAnswer& answer, const Produced& produced,
                                      uint32_t group, uint64_t begin, uint64_t count,
                                      std::vector<float>* in_scale, const StructSizes* sizes) {
  const plugin::Method& method = config.method();
  if (method.table().dequantize == nullptr) {
    return Error{Code::unsupported, "method has no dequantize", view.source().title, "", ""};
  }
  const uint64_t in = view.source().in;
  Guarded out("dequantized rows", count * in * sizeof(float), alignof(float));
  Guarded scale("input scale", in * sizeof(float), alignof(float));
  uint32_t has_scale = 0;
  Arena arena(sizes);
  ls_rows rows{};
  rows.struct_size = sizeof rows;
  rows.raw = in_scale != nullptr ? 1 : 0;
  rows.group = group;
  rows.place = LS_PLACE_HOST;
  rows.note = answer.work.note;
  rows.row_begin = begin;
  rows.row_count = count;
  rows.stored = buffers_of(arena, produced);
  rows.stored_count = produced.stored.size();
  rows.out = out.as<float>();
  if (in_scale != nullptr) {
    rows.in_scale = scale.as<float>();
    rows.has_in_scale = &has_scale;
  }
  const ls_rows* handed = arena.put(rows);
  const int32_t status =
      call_plugin([&] { return method.table().dequantize(config.handle(), &view.get(), handed); });
  LS_CHECK(check_call(status, method, "dequantize", view.source().title));
  LS_CHECK(out.check());
  LS_CHECK(scale.check());
  if (in_scale != nullptr) {
    in_scale->clear();
    if (has_scale != 0) in_scale->assign(scale.as<float>(), scale.as<float>() + in);
  }
  return std::vector<float>(out.as<float>(), out.as<float>() + count * in);
}

Result<std::vector<float>> dequantize_all(const MethodConfig& config, const CaseView& view,
                                          const LayerAnswer& answer, const Produced& produced) {
  std::vector<float> out;
  for (uint32_t group = 0; group < std::max<uint32_t>(view.source().groups, 1); ++group) {
    LS_TRY(const std::vector<float> rows,
           dequantize(config, view, answer, produced, group, 0, view.source().out));
    out.insert(out.end(), rows.begin(), rows.end());
  }
  return out;
}

}  // namespace loadstone::conformance
