// Fills the ls_method table from the static functions and nested types of a class.
#pragma once

#include "handles.hpp"

namespace loadstone::sdk::detail {

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
  static AnySession<M>& session(ls_session* handle) {
    return *reinterpret_cast<AnySession<M>*>(handle);
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
    if constexpr (HasSession<M> || HasFeed<M> || HasProduce<M> || kWrapperDecodes<M>) {
      out.begin = begin;
      out.feed = feed;
      out.end = end;
      out.abort = [](ls_session* handle) { delete &session(handle); };
    }
    if constexpr (HasMerge<M>) {
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
    if constexpr (kWrapperDecodes<M>) {
      if (layer.wants_decode()) {
        if (is_plain(layer)) return out.keep("not quantized in the checkpoint");
        return plan_decode(layer, plan_inner(config, layer), out);
      }
    }
    M::plan(config.config, layer, target, out);
  }

  /// What the method would do if it were to quantize a layer that is to be decoded.
  static Plan plan_inner(const Box& config, const Layer& layer) {
    const QuantizedView quantized(layer);
    Plan inner;
    M::plan(config.config, quantized.layer(), cpu_target(), inner);
    return inner;
  }

  static Target cpu_target() {
    Target cpu{make<ls_target>()};
    cpu.kind = LS_TARGET_CPU;
    cpu.name = "cpu";
    return cpu;
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
      std::unique_ptr<AnySession<M>> made;
      if constexpr (kWrapperDecodes<M>) {
        const Layer view(layer);
        if (view.wants_decode()) {
          made = std::make_unique<DecodeSession<M>>(box(config), layer, arrays,
                                                    plan_inner(box(config), view));
        }
      }
      if (!made) made = std::make_unique<QuantizeSession<M>>(box(config), layer, arrays);
      *out = reinterpret_cast<ls_session*>(made.release());
    });
  }

  static int32_t feed(ls_session* handle, const ls_piece* piece) {
    return guarded([&] { session(handle).feed(piece); });
  }

  static int32_t merge(const ls_session* handle, void* into, const void* from) {
    return guarded([&] {
      const auto& made =
          static_cast<const QuantizeSession<M>&>(*reinterpret_cast<const AnySession<M>*>(handle));
      M::merge(made.config, made.layer, made.begin.group_count(), into, from);
    });
  }

  static int32_t end(ls_session* handle, const void* stat, uint32_t trouble) {
    return guarded([&] {
      const std::unique_ptr<AnySession<M>> owned(&session(handle));
      owned->end(stat, trouble);
    });
  }

  static int32_t dequantize(const ls_config* config, const ls_layer* from, const ls_rows* rows) {
    return guarded([&] {
      const Layer layer(from);
      const Rows wanted(rows, layer.in());
      if (wanted.raw().raw != 0 && wanted.raw().has_in_scale != nullptr) {
        *wanted.raw().has_in_scale = 0;
      }
      if constexpr (kWrapperDecodes<M>) {
        if (layer.wants_decode()) return dequantize_plain(layer, wanted);
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
    Plan plan;
    plan_into(config, layer, cpu_target(), plan);
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
