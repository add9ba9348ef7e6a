// A weight-only int8 method, one scale a row, that does one thing wrong as its build says: what the
// kit must find. FAULT_NONE is right.
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <loadstone/plugin.hpp>

namespace {

namespace sdk = loadstone::sdk;

#if defined(FAULT_IMPURE_PLAN) || defined(FAULT_REMEMBERS)
std::atomic<uint64_t> calls{0};
#endif

struct Faulty {
  static constexpr const char* kName = "faulty";
  static constexpr const char* kSummary = "int8 rows, wrong in one way";
  static constexpr ls_field kFields[] = {sdk::ignored_layers_field()};
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "faulty")};
#if defined(FAULT_DECODES)
  static constexpr bool kDecodes = true;  // and doesn't
#endif
  struct Config {};

#if defined(FAULT_IGNORED)
  static const char* ignored(const Config&, const sdk::Layer&) { return nullptr; }
#endif

#if defined(FAULT_CONFIGURE)
  static Config configure(const sdk::Values&) { sdk::fail(LS_INVALID_CONFIG, "no thanks"); }
#endif

  static void plan(const Config&, const sdk::Layer& layer, const sdk::Target&, sdk::Plan& plan) {
#if defined(FAULT_CRASH)
    std::abort();
#elif defined(FAULT_HANG)
    sleep(1000);
#elif defined(FAULT_EXIT)
    std::exit(0);
#endif
    if (!layer.is_matrix() || layer.groups() > 1) return plan.unsupported("needs one matrix");
    plan.stored("weight", LS_DTYPE_I8, {layer.out(), layer.in()});
    plan.stored("weight_scale", LS_DTYPE_F32, {layer.out()});
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      const sdk::Tensor weight = layer.get(p, "weight");
      if (weight.is_float()) {
        plan.streamed_part(layer, weight);
      } else {
        plan.identity_part(layer, 0, weight);
        const sdk::Tensor scale = layer.get(p, "weight_scale");
        plan.identity(1, scale, layer.part(p).out_begin * sizeof(float));
      }
    }
    ls_work& work = plan.quantize("faulty");
    work.feed_scratch = layer.in() * sizeof(float);
    work.weight_error = 0.5 / 127 * (1 + 1e-5);
#if defined(FAULT_IMPURE_PLAN)
    work.note = ++calls;
#elif defined(FAULT_WRONG_BOUND)
    work.weight_error = 0.0001;
#elif defined(FAULT_NO_BOUND)
    work.weight_error = 0;
#elif defined(FAULT_UNROUNDED_ACTIVATIONS)
    work.activation_error = 0.5 / 127;
#endif
  }

  static void feed(const Config&, const sdk::Layer& layer, const sdk::Begin& begin,
                   const sdk::Piece& piece) {
    const auto codes = begin.stored().as<int8_t>(0);
    const auto scales = begin.stored().as<float>(1);
    const uint64_t in = layer.in();
    const std::span<float> row(piece.scratch<float>(), in);
#if defined(FAULT_SCRATCH)
    piece.scratch<char>()[in * sizeof(float)] = 1;
#elif defined(FAULT_WRITES_SOURCE)
    *static_cast<char*>(const_cast<void*>(piece.row(0))) ^= 1;
#elif defined(FAULT_STATUS)
    if (sdk::cancelled()) sdk::fail(LS_INTERNAL, "cancelled, says another status");
#endif
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      sdk::widen(piece.tensor().dtype, piece.row(r), in, row.data());
#if defined(FAULT_SILENT_NAN)
      for (float& value : row) value = std::isfinite(value) ? value : 0.0f;
#else
      sdk::require_finite(row, piece, r);
#endif
      const uint64_t out = piece.out_row() + r;
      float amax = 0;
      for (const float value : row) amax = std::max(amax, std::fabs(value));
      scales[out] = amax / 127.0f < 0x1p-126f ? 1.0f : amax / 127.0f;
#if defined(FAULT_UNWRITTEN)
      if (out + 1 == layer.out()) continue;
#endif
      for (uint64_t c = 0; c < in; ++c) {
        codes[out * in + c] =
            static_cast<int8_t>(std::clamp(std::nearbyint(row[c] / scales[out]), -127.0f, 127.0f));
      }
#if defined(FAULT_BY_PIECE)
      if (piece.row_count() > 1) codes[out * in] = 1;
#elif defined(FAULT_REMEMBERS)
      codes[out * in] = static_cast<int8_t>(++calls);
#elif defined(FAULT_ZEROS)
      if (amax == 0) codes[out * in] = 1;
#elif defined(FAULT_PAST_STORED)
      if (out + 1 == layer.out()) const_cast<float*>(scales.data())[layer.out()] = 1;
#elif defined(FAULT_BEFORE_STORED)
      if (out == 0) codes.data()[-1] = 1;
#endif
    }
  }

  static void dequantize(const Config&, const sdk::Layer& layer, const sdk::Rows& rows) {
    const auto codes = rows.stored().as<const int8_t>(0);
    const auto scales = rows.stored().as<const float>(1);
    for (uint64_t r = 0; r < rows.count(); ++r) {
      for (uint64_t c = 0; c < layer.in(); ++c) {
        const uint64_t row = rows.begin() + r;
        rows.out(r)[c] = static_cast<float>(codes[row * layer.in() + c]) * scales[row];
#if defined(FAULT_BY_RANGE)
        if (rows.begin() > 0 && r == 0) rows.out(r)[c] += 1e-3f;
#endif
      }
    }
#if defined(FAULT_PAST_ROWS)
    rows.out(0).data()[rows.count() * layer.in()] = 0;
#endif
  }

#if defined(FAULT_SAVE)
  static void save_read(const Config&, const sdk::Layer&, uint64_t, const sdk::Buffers&, uint64_t,
                        uint64_t, uint64_t nbytes, void* out) {
    std::memset(out, 1, nbytes);
  }
#endif

#if defined(FAULT_APPLY) || defined(FAULT_APPLY_PAST) || defined(FAULT_WORKSPACE) || \
    defined(FAULT_WRITES_X)
  struct Bound {
    Bound(const Config&, const sdk::Binding& b)
        : binding(b), blockwise(b.layer.kind(), 1, b.layer.out(), b.layer.in()) {}
    void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
      out.workspace_nbytes = blockwise.workspace_nbytes(m);
    }
    void apply(const ls_apply& call) const {
      blockwise.run(call, [this](uint32_t, uint64_t begin, uint64_t count, float* out) {
        const auto codes = binding.stored.as<const int8_t>(0);
        const auto scales = binding.stored.as<const float>(1);
        const uint64_t in = binding.layer.in();
        for (uint64_t i = 0; i < count * in; ++i) {
          out[i] = static_cast<float>(codes[begin * in + i]) * scales[begin + i / in];
#if defined(FAULT_APPLY)
          out[i] *= 1.0001f;
#endif
        }
      });
#if defined(FAULT_APPLY_PAST)
      static_cast<char*>(call.y)[(call.m - 1) * call.y_stride * sdk::float_nbytes(call.y_dtype) +
                                 binding.layer.out() * sdk::float_nbytes(call.y_dtype)] = 7;
#elif defined(FAULT_WORKSPACE)
      static_cast<char*>(call.workspace)[blockwise.workspace_nbytes(call.m)] = 7;
#elif defined(FAULT_WRITES_X)
      *static_cast<char*>(const_cast<void*>(call.x)) ^= 1;
#endif
    }
    sdk::Binding binding;
    sdk::BlockwiseApply blockwise;
  };
#endif
};

#if defined(FAULT_READS_PAST)
// Believes that every host knows today's structs.
int32_t (*real_plan)(const ls_config*, const ls_layer*, const ls_target*, ls_sink*);
int32_t plan_layer(const ls_config* config, const ls_layer* layer, const ls_target* target,
                   ls_sink* sink) {
  static volatile size_t length;
  length = std::strlen(layer->path);
  return real_plan(config, layer, target, sink);
}
#endif

}  // namespace

#if defined(FAULT_READS_PAST) || defined(FAULT_CALLS_MISSING)
extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  const ls_plugin* made = sdk::detail::describe<Faulty>(host, "faulty", "1.0", "MIT");
  if (made == nullptr) return nullptr;
#if defined(FAULT_CALLS_MISSING)
  host->match(LS_STYLE_EXACT, "a", "a");
  return made;
#else
  static ls_method method = *made->methods[0];
  static const ls_method* const methods[] = {&method};
  static ls_plugin plugin = *made;
  if (method.plan_layer != plan_layer) real_plan = method.plan_layer;
  method.plan_layer = plan_layer;
  plugin.methods = methods;
  return &plugin;
#endif
}
#else
LOADSTONE_PLUGIN("faulty", "1.0", "MIT", Faulty)
#endif
