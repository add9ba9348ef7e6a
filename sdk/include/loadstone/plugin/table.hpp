// Fills the ls_method table from the static functions and nested types of a class.
#pragma once

#include <array>
#include <concepts>
#include <memory>

#include "apply.hpp"
#include "config.hpp"
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
struct SessionBox {
  SessionBox(const ConfigBox<M>& box, const ls_layer* from, const ls_begin* arrays)
      : config(box.config), layer(from), begin(arrays), session{box.config, layer, begin} {}
  const typename ConfigOf<M>::type& config;
  Layer layer;
  Begin begin;
  typename SessionOf<M>::type session;
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

template <typename M>
class Table {
 public:
  static const ls_method* get() {
    static const ls_method table = fill();
    return &table;
  }

 private:
  using Config = typename ConfigOf<M>::type;
  using Box = ConfigBox<M>;

  static const Box& box(const ls_config* config) { return *reinterpret_cast<const Box*>(config); }
  static SessionBox<M>& session(ls_session* handle) {
    return *reinterpret_cast<SessionBox<M>*>(handle);
  }
  static const BoundBox<M>& bound(const ls_bound* handle) {
    return *reinterpret_cast<const BoundBox<M>*>(handle);
  }

  static std::span<const ls_field> fields() {
    if constexpr (requires { M::kFields; }) {
      return M::kFields;
    } else {
      return {};
    }
  }

  template <typename T>
  static const T* const* pointers(std::span<const T> items) {
    static std::vector<const T*> out;
    for (const T& item : items) out.push_back(&item);
    return out.data();
  }

  static ls_method fill() {
    ls_method out = make<ls_method>();
    out.name = M::kName;
    out.summary = M::kSummary;
    if constexpr (requires { M::kAliases; }) {
      out.aliases = std::data(M::kAliases);
      out.alias_count = std::size(M::kAliases);
    }
    out.fields = pointers<ls_field>(fields());
    out.field_count = fields().size();
    if constexpr (requires { M::kClaims; }) {
      out.claims = pointers<ls_claim>(std::span<const ls_claim>(M::kClaims));
      out.claim_count = std::size(M::kClaims);
    }
    out.read_declaration = read_declaration;
    out.configure = configure;
    out.config_destroy = [](ls_config* config) { delete reinterpret_cast<Box*>(config); };
    out.ignored = ignored;
    out.plan_layer = plan_layer;
    fill_production(out);
    fill_running(out);
    fill_saving(out);
    return out;
  }

  static void fill_production(ls_method& out) {
    if constexpr (HasSession<M> || HasFeed<M> || HasProduce<M>) {
      out.begin = begin;
      out.feed = feed;
      out.end = end;
      out.abort = [](ls_session* handle) { delete &session(handle); };
    }
    if constexpr (requires(const Config& c, const Layer& l, void* a, const void* b) {
                    M::merge(c, l, uint32_t{}, a, b);
                  }) {
      out.merge = merge;
    }
    if constexpr (HasDequantize<M>) out.dequantize = dequantize;
    if constexpr (requires(const Config& c, const Layer& l, const ls_buffer& b) {
                    M::repack(c, l, uint64_t{}, bool{}, b, b, nullptr);
                  }) {
      out.repack = repack;
    }
  }

  static void fill_running(ls_method& out) {
    if constexpr (HasBound<M> || HasDequantize<M>) {
      out.bind = bind;
      out.unbind = [](ls_bound* handle) { delete &bound(handle); };
      out.variant = variant;
      out.sizes = sizes;
      out.apply = apply;
      if constexpr (requires(const typename BoundOf<M>::type& b, const ls_apply& a) {
                      b.prepare(a);
                    }) {
        out.prepare = prepare;
      }
    }
  }

  static void fill_saving(ls_method& out) {
    if constexpr (requires { M::kSaves; }) {
      if constexpr (!M::kSaves) return;
    }
    out.save_layer = save_layer;
    out.save_read = save_read;
    out.save_model = save_model;
  }

  // ---- configuration ----

  static int32_t read_declaration(const ls_node* node, uint64_t claim, ls_sink* sink) {
    return guarded([&] {
      Declaration out(sink);
      if constexpr (requires(const Node& n) { M::read_declaration(n, claim, out); }) {
        M::read_declaration(Node(node), claim, out);
      } else {
        read_flat_declaration(Node(node), fields(), out);
      }
    });
  }

  static int32_t configure(const ls_value* const* raw, uint64_t count, ls_config** out) {
    return guarded([&] {
      const Values values(raw, count);
      auto made = std::make_unique<Box>();
      if constexpr (requires { M::configure(values); }) made->config = M::configure(values);
      if (values.has("ignored_layers")) made->ignored_layers = values.texts("ignored_layers");
      made->json = declaration_json(M::kName, values);
      *out = reinterpret_cast<ls_config*>(made.release());
    });
  }

  static int32_t ignored(const ls_config* config, const ls_layer* from, const char** entry) {
    return guarded([&] {
      *entry = nullptr;
      const Layer layer(from);
      if constexpr (requires { M::ignored(box(config).config, layer); }) {
        *entry = M::ignored(box(config).config, layer);
      } else {
        *entry = ignored_by(box(config).ignored_layers, layer);
      }
    });
  }

  // ---- planning ----

  static void plan_into(const Box& config, const Layer& layer, const Target& target, Plan& out) {
    constexpr bool has_cuda = requires { requires M::kCuda; };
    if (!has_cuda && target.cuda() && !layer.wants_decode() && layer.is_matrix()) {
      out.unsupported("this method has no CUDA kernel");
      return;
    }
    M::plan(config.config, layer, target, out);
  }

  static int32_t plan_layer(const ls_config* config, const ls_layer* from, const ls_target* target,
                            ls_sink* sink) {
    return guarded([&] {
      Plan plan;
      plan_into(box(config), Layer(from), Target{copy_in(target)}, plan);
      plan.send(sink);
    });
  }

  // ---- producing ----

  static int32_t begin(const ls_config* config, const ls_layer* layer, const ls_begin* arrays,
                       ls_session** out) {
    return guarded([&] {
      *out = reinterpret_cast<ls_session*>(
          std::make_unique<SessionBox<M>>(box(config), layer, arrays).release());
    });
  }

  static int32_t feed(ls_session* handle, const ls_piece* piece) {
    return guarded([&] {
      auto& s = session(handle);
      s.session.feed(Piece(piece, s.layer, s.begin));
    });
  }

  static int32_t merge(const ls_session* handle, void* into, const void* from) {
    return guarded([&] {
      const auto& s = *reinterpret_cast<const SessionBox<M>*>(handle);
      M::merge(s.config, s.layer, s.begin.group_count(), into, from);
    });
  }

  static int32_t end(ls_session* handle, const void* stat, uint32_t trouble) {
    return guarded([&] {
      const std::unique_ptr<SessionBox<M>> owned(&session(handle));
      if constexpr (requires { owned->session.end(stat, trouble); }) {
        owned->session.end(stat, trouble);
      } else if constexpr (requires { owned->session.end(); }) {
        owned->session.end();
      }
    });
  }

  static int32_t dequantize(const ls_config* config, const ls_layer* from, const ls_rows* rows) {
    return guarded([&] {
      const Layer layer(from);
      const Rows wanted(rows, layer.in());
      if (wanted.raw().raw != 0 && wanted.raw().has_in_scale != nullptr) {
        *wanted.raw().has_in_scale = 0;
      }
      M::dequantize(box(config).config, layer, wanted);
    });
  }

  static int32_t repack(const ls_config* config, const ls_layer* layer, uint64_t wish,
                        uint32_t inverse, const ls_buffer* canonical, const ls_buffer* packed,
                        void* stream) {
    return guarded([&] {
      M::repack(box(config).config, Layer(layer), wish, inverse != 0, copy_in(canonical),
                copy_in(packed), stream);
    });
  }

  // ---- running ----

  static int32_t bind(const ls_config* config, const ls_layer* layer, const ls_target* target,
                      uint64_t note, const ls_buffer* const* stored, uint64_t count,
                      ls_bound** out) {
    return guarded([&] {
      *out = reinterpret_cast<ls_bound*>(
          std::make_unique<BoundBox<M>>(box(config), layer, target, note, stored, count).release());
    });
  }

  static int32_t variant(const ls_bound* handle, const ls_step* step, uint32_t* out) {
    return guarded([&] {
      *out = 0;
      const ls_step now = copy_in(step);
      if constexpr (requires { bound(handle).bound.variant(now); }) {
        *out = bound(handle).bound.variant(now);
      }
    });
  }

  static int32_t sizes(const ls_bound* handle, uint32_t variant_number, uint64_t m, ls_sizes* out) {
    return guarded([&] {
      ls_sizes made = make<ls_sizes>();
      bound(handle).bound.sizes(variant_number, m, made);
      copy_out(made, out);
    });
  }

  static int32_t prepare(const ls_bound* handle, const ls_apply* call) {
    return guarded([&] { bound(handle).bound.prepare(copy_in(call)); });
  }

  static int32_t apply(const ls_bound* handle, const ls_apply* call) {
    return guarded([&] { bound(handle).bound.apply(copy_in(call)); });
  }

  // ---- saving ----

  /// What is stored, by planning again: plans are pure.
  static Plan replan(const Box& config, const Layer& layer) {
    Target cpu{make<ls_target>()};
    cpu.kind = LS_TARGET_CPU;
    cpu.name = "cpu";
    Plan plan;
    plan_into(config, layer, cpu, plan);
    return plan;
  }

  static int32_t save_layer(const ls_config* config, const ls_layer* from, uint64_t note,
                            ls_sink* sink) {
    return guarded([&] {
      const Layer layer(from);
      if constexpr (requires { M::save_layer(box(config).config, layer, note, sink); }) {
        M::save_layer(box(config).config, layer, note, sink);
      } else {
        const Plan plan = replan(box(config), layer);
        for (const SavedTensor& saved :
             saved_tensors(layer, plan, [](uint64_t) { return uint64_t{0}; })) {
          check_host(host().save_tensor(sink, &saved.shape, saved.part), "save_tensor");
        }
      }
    });
  }

  static int32_t save_read(const ls_config* config, const ls_layer* from, uint64_t note,
                           const ls_buffer* const* stored, uint64_t count, uint64_t index,
                           uint64_t offset, uint64_t nbytes, void* out) {
    return guarded([&] {
      const Layer layer(from);
      const Buffers buffers(stored, count);
      if constexpr (requires {
                      M::save_read(box(config).config, layer, note, buffers, index, offset, nbytes,
                                   out);
                    }) {
        M::save_read(box(config).config, layer, note, buffers, index, offset, nbytes, out);
      } else {
        const Plan plan = replan(box(config), layer);
        const auto all =
            saved_tensors(layer, plan, [&](uint64_t s) { return buffers.raw(s).nbytes; });
        if (index >= all.size() || offset > all[index].nbytes ||
            nbytes > all[index].nbytes - offset) {
          fail(LS_INVALID_ARGUMENT, "saved tensor read out of range");
        }
        const SavedTensor& saved = all[index];
        std::memcpy(out,
                    static_cast<const char*>(buffers.raw(saved.stored).at) + saved.offset + offset,
                    nbytes);
      }
    });
  }

  static int32_t save_model(const ls_config* config, ls_sink* sink) {
    return guarded([&] {
      std::string json = box(config).json;
      if constexpr (requires { M::declaration(box(config).config); }) {
        json = M::declaration(box(config).config);
      }
      check_host(host().save_declaration(sink, json.c_str()), "save_declaration");
    });
  }
};

}  // namespace loadstone::sdk::detail
