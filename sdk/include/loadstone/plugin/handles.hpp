// What stands behind the opaque handles of a method, and which entries its class offers.
#pragma once

#include <array>
#include <concepts>
#include <memory>

#include "apply.hpp"
#include "config.hpp"
#include "decode.hpp"
#include "ignored.hpp"
#include "save.hpp"

namespace loadstone::sdk::detail {

struct NoConfig {};

template <typename M>
struct ConfigOf {
  using type = NoConfig;
};
template <typename M>
requires requires { typename M::Config; }
struct ConfigOf<M> {
  using type = typename M::Config;
};

/// What ls_config is: the method's own Config and what the wrapper's defaults need.
template <typename M>
struct ConfigBox {
  typename ConfigOf<M>::type config;
  std::vector<std::string> ignored_layers;
  std::string json;
};

// Which entries a class offers.
template <typename M>
concept HasSession = requires {
  typename M::Session;
};
template <typename M>
concept HasFeed = requires(const typename ConfigOf<M>::type& c, const Layer& l, const Begin& b,
                           const Piece& p) {
  M::feed(c, l, b, p);
};
template <typename M>
concept HasProduce = requires(const typename ConfigOf<M>::type& c, const Layer& l, const Begin& b) {
  M::produce(c, l, b);
};
template <typename M>
concept HasDequantize = requires(const typename ConfigOf<M>::type& c, const Layer& l,
                                 const Rows& r) {
  M::dequantize(c, l, r);
};
template <typename M>
concept HasBound = requires {
  typename M::Bound;
};

/// The session of a method without state of its own.
template <typename M>
struct PlainSession {
  const typename ConfigOf<M>::type& config;
  const Layer& layer;
  const Begin& begin;

  void feed(const Piece& piece) {
    if constexpr (HasFeed<M>) {
      M::feed(config, layer, begin, piece);
    } else {
      fail(LS_INVALID_ARGUMENT, "this method takes no pieces");
    }
  }
  void end() {
    if constexpr (HasProduce<M>) M::produce(config, layer, begin);
  }
};

template <typename M>
struct SessionOf {
  using type = PlainSession<M>;
};
template <HasSession M>
struct SessionOf<M> {
  using type = typename M::Session;
};

/// What ls_session is.
template <typename M>
struct AnySession {
  AnySession(const ls_layer* from, const ls_begin* arrays) : layer(from), begin(arrays) {}
  virtual ~AnySession() = default;
  virtual void feed(const ls_piece* piece) = 0;
  virtual void end(const void* stat, uint32_t trouble) = 0;

  Layer layer;
  Begin begin;
};

/// Makes the method's own stored tensors.
template <typename M>
struct QuantizeSession final : AnySession<M> {
  QuantizeSession(const ConfigBox<M>& box, const ls_layer* from, const ls_begin* arrays)
      : AnySession<M>(from, arrays),
        config(box.config),
        session{box.config, this->layer, this->begin} {}
  void feed(const ls_piece* piece) override {
    session.feed(Piece(piece, this->layer, this->begin));
  }
  void end(const void* stat, uint32_t trouble) override {
    if constexpr (requires { session.end(stat, trouble); }) {
      session.end(stat, trouble);
    } else if constexpr (requires { session.end(); }) {
      session.end();
    }
  }
  const typename ConfigOf<M>::type& config;
  typename SessionOf<M>::type session;
};

template <typename M>
concept HasMerge = requires(const typename ConfigOf<M>::type& c, const Layer& l, void* a,
                            const void* b) {
  M::merge(c, l, uint32_t{}, a, b);
};

/// Makes plain floats (decode.hpp).
template <typename M>
struct DecodeSession final : AnySession<M> {
  DecodeSession(const ConfigBox<M>& box, const ls_layer* from, const ls_begin* arrays, Plan inner)
      : AnySession<M>(from, arrays),
        config(box.config),
        decoder(box.config, this->layer, this->begin, std::move(inner)) {}
  void feed(const ls_piece*) override { fail(LS_INVALID_ARGUMENT, "decoding takes no pieces"); }
  void end(const void*, uint32_t) override {
    decoder.run([&](const Layer& l, const Rows& rows) { M::dequantize(config, l, rows); },
                [&](const Layer& l, void* into, const void* from) {
                  if constexpr (HasMerge<M>) {
                    M::merge(config, l, this->begin.group_count(), into, from);
                  }
                });
  }
  const typename ConfigOf<M>::type& config;
  Decoder<typename SessionOf<M>::type, typename ConfigOf<M>::type> decoder;
};

/// The wrapper decodes unless the method does so itself.
template <typename M>
constexpr bool kWrapperDecodes = HasDequantize<M> && !requires {
  requires M::kDecodes;
};

/// The default bound layer: dequantize and the host's product.
template <typename M>
struct PlainBound {
  PlainBound(const typename ConfigOf<M>::type& config, const Binding& binding)
      : config_(config),
        binding_(binding),
        blockwise_(binding.layer.kind(), binding.layer.groups(), binding.layer.out(),
                   binding.layer.in()) {
    if (binding.target.cuda()) fail(LS_UNSUPPORTED, "this method has no CUDA kernel");
  }
  void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
    out.workspace_nbytes = blockwise_.workspace_nbytes(m);
  }
  void apply(const ls_apply& call) const {
    blockwise_.run(call, [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
      ls_rows rows = make<ls_rows>();
      rows.group = group;
      rows.place = LS_PLACE_HOST;
      rows.note = binding_.note;
      rows.row_begin = begin;
      rows.row_count = count;
      rows.stored = stored_.data();
      rows.stored_count = stored_.size();
      rows.out = out;
      M::dequantize(config_, binding_.layer, Rows(&rows, binding_.layer.in()));
    });
  }
  /// The pointers must outlive bind's arrays.
  void keep(std::vector<const ls_buffer*> stored) { stored_ = std::move(stored); }

 private:
  const typename ConfigOf<M>::type& config_;
  Binding binding_;
  BlockwiseApply blockwise_;
  std::vector<const ls_buffer*> stored_;
};

template <typename M>
struct BoundOf {
  using type = PlainBound<M>;
};
template <HasBound M>
struct BoundOf<M> {
  using type = typename M::Bound;
};

/// What ls_bound is. Buffers are copied: bind's arrays needn't outlive the call.
template <typename M>
struct BoundBox {
  BoundBox(const ConfigBox<M>& box, const ls_layer* from, const ls_target* to, uint64_t note,
           const ls_buffer* const* stored, uint64_t count)
      : layer(from),
        buffers(copy(stored, count)),
        pointers(point(buffers)),
        bound(box.config, Binding{layer, Target{copy_in(to)}, note,
                                  Buffers(pointers.data(), pointers.size())}) {
    if constexpr (!HasBound<M>) bound.keep(pointers);
  }
  static std::vector<ls_buffer> copy(const ls_buffer* const* stored, uint64_t count) {
    std::vector<ls_buffer> out;
    for (uint64_t i = 0; i < count; ++i) out.push_back(copy_in(stored[i]));
    return out;
  }
  static std::vector<const ls_buffer*> point(const std::vector<ls_buffer>& buffers) {
    std::vector<const ls_buffer*> out;
    for (const ls_buffer& buffer : buffers) out.push_back(&buffer);
    return out;
  }

  Layer layer;
  std::vector<ls_buffer> buffers;
  std::vector<const ls_buffer*> pointers;
  typename BoundOf<M>::type bound;
};

}  // namespace loadstone::sdk::detail
