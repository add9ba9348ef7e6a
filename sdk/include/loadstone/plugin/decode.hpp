// The default decode: plain floats of a serialized layer that a rule keeps. Everything that the
// method's own plan reads becomes resident; at the end the quantized tensors are made in the
// session's scratch, dequantized and rounded to the layer's dtype.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "plan.hpp"
#include "produce.hpp"

namespace loadstone::sdk::detail {

/// The same layer as a quantizing one.
class QuantizedView {
 public:
  explicit QuantizedView(const Layer& layer) : raw_(as_quantized(layer.raw())), layer_(&raw_) {}
  const Layer& layer() const { return layer_; }

 private:
  static ls_layer as_quantized(ls_layer raw) {
    raw.want = LS_WANT_QUANTIZE;
    return raw;
  }
  ls_layer raw_;
  Layer layer_;
};

inline uint64_t round_up(uint64_t value) { return (value + 63) / 64 * 64; }

/// Bytes of an inner stored tensor: its identities' sum, else by dtype.
inline uint64_t stored_nbytes(const Plan& plan, uint64_t index) {
  uint64_t nbytes = 0;
  for (const ls_identity& one : plan.all_identities()) {
    if (one.stored == index) nbytes += one.rows * one.row_nbytes;
  }
  if (nbytes != 0) return nbytes;
  const ls_stored& stored = plan.all_stored()[index];
  uint64_t elems = 1;
  for (uint32_t axis = 0; axis < stored.rank; ++axis) elems *= stored.shape[axis];
  switch (stored.dtype) {
    case LS_DTYPE_F4:
      return elems / 2;
    case LS_DTYPE_F6_E2M3:
    case LS_DTYPE_F6_E3M2:
      return elems / 4 * 3;
    case LS_DTYPE_I16:
    case LS_DTYPE_U16:
    case LS_DTYPE_F16:
    case LS_DTYPE_BF16:
      return elems * 2;
    case LS_DTYPE_I32:
    case LS_DTYPE_U32:
    case LS_DTYPE_F32:
      return elems * 4;
    case LS_DTYPE_I64:
    case LS_DTYPE_U64:
    case LS_DTYPE_F64:
    case LS_DTYPE_C64:
      return elems * 8;
    default:
      break;
  }
  if (stored.dtype >= LS_DTYPE_GGML) fail(LS_UNSUPPORTED, "produced ggml blocks can't be decoded");
  return elems;
}

/// How the session's scratch is cut: stored tensors, the inner session's and feed's scratch, two
/// sets of statistics, a block of float32 rows.
struct DecodeLayout {
  static constexpr uint64_t kBlockRows = 128;

  DecodeLayout(const Layer& layer, uint64_t in, const Plan& inner) {
    const ls_work& work = inner.work();
    for (uint64_t i = 0; i < inner.all_stored().size(); ++i) {
      stored.push_back(take(stored_nbytes(inner, i)));
    }
    session = take(work.session_scratch);
    feed = take(work.feed_scratch);
    stat_nbytes = work.stat_nbytes * layer.groups();
    stat = take(stat_nbytes);
    merged = take(stat_nbytes);
    rows = take(kBlockRows * in * sizeof(float));
  }

  std::vector<uint64_t> stored;  // offsets
  uint64_t session = 0, feed = 0, stat = 0, merged = 0, rows = 0;
  uint64_t stat_nbytes = 0, total = 0;

 private:
  uint64_t take(uint64_t nbytes) {
    const uint64_t at = total;
    total += round_up(nbytes);
    return at;
  }
};

/// Tensors that the inner plan reads, in the order of the outer plan's sources.
inline std::vector<uint32_t> decode_sources(const Plan& inner) {
  std::map<uint32_t, bool> seen;
  for (const ls_source& source : inner.all_sources()) seen[source.tensor] = true;
  for (const ls_identity& identity : inner.all_identities()) seen[identity.tensor] = true;
  std::vector<uint32_t> out;
  for (const auto& [tensor, used] : seen) out.push_back(tensor);
  return out;
}

/// Every part's weight is a plain float already.
inline bool is_plain(const Layer& layer) {
  for (uint64_t p = 0; p < layer.part_count(); ++p) {
    const auto weight = layer.find(p, "weight");
    if (!weight || !(weight->is_float() || weight->dtype == LS_DTYPE_F64)) return false;
  }
  return layer.part_count() > 0;
}

inline uint32_t decoded_dtype(const Layer& layer) {
  return is_float(layer.load_dtype()) ? layer.load_dtype() : uint32_t{LS_DTYPE_F32};
}

/// The outer plan, from the method's own.
inline void plan_decode(const Layer& layer, Plan inner, Plan& out) {
  if (inner.verdict() != LS_VERDICT_QUANTIZE || inner.asks()) {
    out = std::move(inner);
    return;
  }
  // Of a packed weight only the inner plan knows the width.
  const uint64_t in = layer.in() != 0 ? layer.in() : inner.work().in;
  if (!layer.is_matrix() || in == 0 || inner.work().bias == LS_BIAS_BY_METHOD) {
    return out.unsupported("this method can't decode the layer to plain floats");
  }
  if (layer.groups() > 1) {
    out.stored("weight", decoded_dtype(layer), {layer.groups(), layer.out(), in});
  } else {
    out.stored("weight", decoded_dtype(layer), {layer.out(), in});
  }
  for (const uint32_t tensor : decode_sources(inner)) out.resident(layer.tensor(tensor));
  for (const auto& [tensor, reason] : inner.all_unused()) {
    out.unused(layer.tensor(tensor), reason);
  }
  ls_work& work = out.decode("decoded to plain floats");
  work.session_scratch = DecodeLayout(layer, in, inner).total;
  work.in = in;
}

/// Makes the inner tensors and hands rows on. `Inner` is the method's session type.
template <typename Session, typename Config>
class Decoder {
 public:
  using Dequantize = std::function<void(const Layer&, const Rows&)>;

  Decoder(const Config& config, const Layer& layer, const Begin& begin, Plan inner)
      : config_(config),
        quantized_(layer),
        outer_(begin),
        inner_(std::move(inner)),
        layout_(layer, layer.in(), inner_),
        tensors_(decode_sources(inner_)) {}

  template <typename Merge>
  void run(const Dequantize& dequantize, const Merge& merge) {
    make_arrays();
    copy_identities();
    produce(merge);
    write_rows(dequantize);
  }

 private:
  char* scratch(uint64_t offset) const { return outer_.scratch<char>() + offset; }

  /// Where tensor `index` of the layer lies; null outside the session's groups.
  const ls_buffer* tensor_buffer(uint32_t index) const {
    for (uint64_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i] == index) return outer_.raw().resident[i];
    }
    return nullptr;
  }

  void make_arrays() {
    for (const ls_source& source : inner_.all_sources()) {
      sources_.push_back(&source);
      resident_.push_back(source.mode == LS_SOURCE_STREAMED ? nullptr
                                                            : tensor_buffer(source.tensor));
    }
    for (uint64_t i = 0; i < layout_.stored.size(); ++i) {
      ls_buffer buffer = make<ls_buffer>();
      buffer.place = LS_PLACE_HOST;
      buffer.at = scratch(layout_.stored[i]);
      buffer.nbytes = stored_nbytes(inner_, i);
      buffers_.push_back(buffer);
    }
    for (const ls_buffer& buffer : buffers_) stored_.push_back(&buffer);
    raw_ = outer_.raw();
    raw_.note = inner_.work().note;
    raw_.sources = sources_.data();
    raw_.resident = resident_.data();
    raw_.source_count = sources_.size();
    raw_.stored = stored_.data();
    raw_.stored_count = stored_.size();
    raw_.scratch = scratch(layout_.session);
  }

  void copy_identities() const {
    for (const ls_identity& one : inner_.all_identities()) {
      const ls_buffer* from = tensor_buffer(one.tensor);
      if (from == nullptr) continue;  // of another session's groups
      const char* source = static_cast<const char*>(copy_in(from).at) + one.src_offset;
      char* target = static_cast<char*>(buffers_[one.stored].at) + one.dst_offset;
      for (uint64_t row = 0; row < one.rows; ++row) {
        std::memcpy(target + row * one.dst_stride, source + row * one.src_stride, one.row_nbytes);
      }
    }
  }

  template <typename Merge>
  void produce(const Merge& merge) {
    const Begin begin(&raw_);
    Session session{config_, quantized_.layer(), begin};
    const ls_work& work = inner_.work();
    void* merged = work.stat_nbytes != 0 ? scratch(layout_.merged) : nullptr;
    if (merged != nullptr) std::memset(merged, 0, layout_.stat_nbytes);
    for (uint32_t pass = 1; pass <= std::max<uint32_t>(work.passes, 1); ++pass) {
      feed_all(session, begin, pass, merged, merge);
    }
    if constexpr (requires { session.end(merged, 0u); }) {
      session.end(merged, 0u);
    } else if constexpr (requires { session.end(); }) {
      session.end();
    }
  }

  template <typename Merge>
  void feed_all(Session& session, const Begin& begin, uint32_t pass, void* merged,
                const Merge& merge) const {
    const bool gathers = merged != nullptr && pass == 1;
    const auto feed = [&](ls_piece piece, uint32_t tensor, uint64_t offset) {
      const ls_buffer* from = tensor_buffer(tensor);
      if (from == nullptr) return;
      piece.pass = pass;
      piece.place = LS_PLACE_HOST;
      piece.at = static_cast<const char*>(copy_in(from).at) + offset;
      piece.nbytes = piece.row_count * piece.row_stride;
      piece.scratch = scratch(layout_.feed);
      piece.stat = gathers ? scratch(layout_.stat) : merged;
      if (gathers) std::memset(piece.stat, 0, layout_.stat_nbytes);
      session.feed(Piece(&piece, quantized_.layer(), begin));
      if (gathers) merge(quantized_.layer(), merged, piece.stat);
    };
    for (uint32_t i = 0; i < inner_.all_sources().size(); ++i) {
      const ls_source& source = inner_.all_sources()[i];
      if (source.mode != LS_SOURCE_STREAMED) continue;
      const Tensor tensor = quantized_.layer().tensor(source.tensor);
      ls_piece piece = make<ls_piece>();
      piece.source = i;
      piece.tag = source.tag;
      piece.row_begin = source.row_begin;
      piece.row_count = source.row_count;
      piece.row_stride = tensor.row_nbytes;
      feed(piece, source.tensor, source.row_begin * tensor.row_nbytes);
    }
    for (uint32_t i = 0; i < inner_.all_identities().size() && pass == 1; ++i) {
      const ls_identity& identity = inner_.all_identities()[i];
      if (identity.checked == 0) continue;
      ls_piece piece = make<ls_piece>();
      piece.source = UINT32_MAX;
      piece.identity = i;
      piece.tag = identity.tag;
      piece.row_count = identity.rows;
      piece.row_stride = identity.src_stride;
      feed(piece, identity.tensor, identity.src_offset);
    }
  }

  void write_rows(const Dequantize& dequantize) const {
    constexpr uint64_t kChunk = 8;
    const Layer& layer = quantized_.layer();
    const uint32_t dtype = decoded_dtype(layer);
    const uint64_t in = layer.in(), out = layer.out();
    const ls_buffer weight = outer_.stored().raw(0);
    auto* floats = reinterpret_cast<float*>(scratch(layout_.rows));
    const uint64_t blocks = (out + DecodeLayout::kBlockRows - 1) / DecodeLayout::kBlockRows;
    for (uint64_t b = 0; b < blocks * outer_.group_count(); ++b) {
      check_cancelled();
      const auto group = static_cast<uint32_t>(outer_.group_begin() + b / blocks);
      const uint64_t first = b % blocks * DecodeLayout::kBlockRows;
      const uint64_t count = std::min(DecodeLayout::kBlockRows, out - first);
      parallel_for((count + kChunk - 1) / kChunk, [&](uint64_t chunk) {
        const uint64_t row = chunk * kChunk;
        ls_rows rows = make<ls_rows>();
        rows.group = group;
        rows.place = LS_PLACE_HOST;
        rows.note = raw_.note;
        rows.row_begin = first + row;
        rows.row_count = std::min(kChunk, count - row);
        rows.stored = stored_.data();
        rows.stored_count = stored_.size();
        rows.out = floats + row * in;
        dequantize(layer, Rows(&rows, in));
        const uint64_t at = (group * out + first + row) * in;
        narrow(dtype, rows.out, rows.row_count * in,
               static_cast<char*>(weight.at) + at * float_nbytes(dtype));
      });
    }
  }

  const Config& config_;
  QuantizedView quantized_;
  const Begin& outer_;
  Plan inner_;
  DecodeLayout layout_;
  std::vector<uint32_t> tensors_;
  std::vector<const ls_source*> sources_;
  std::vector<const ls_buffer*> resident_, stored_;
  std::vector<ls_buffer> buffers_;
  ls_begin raw_{};
};

/// Plain floats back as float32 rows.
inline void dequantize_plain(const Layer& layer, const Rows& rows) {
  const uint32_t dtype = decoded_dtype(layer);
  const ls_buffer weight = rows.stored().raw(0);
  for (uint64_t r = 0; r < rows.count(); ++r) {
    const uint64_t at = (rows.group() * layer.out() + rows.begin() + r) * layer.in();
    widen(dtype, static_cast<const char*>(weight.at) + at * float_nbytes(dtype), layer.in(),
          rows.out(r).data());
  }
}

}  // namespace loadstone::sdk::detail
