// A weight-only int8 method, one scale a row, that does one thing wrong: what LOADSTONE_TEST_FAULT
// says, and what the kit must find. Without it, it is right.
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <loadstone/plugin.hpp>

namespace {

namespace sdk = loadstone::sdk;

bool has_fault(std::string_view name) {
  static const char* const fault = std::getenv("LOADSTONE_TEST_FAULT");
  return fault != nullptr && name == fault;
}

std::atomic<uint64_t> calls{0};

struct Faulty {
  static constexpr const char* kName = "faulty";
  static constexpr const char* kSummary = "int8 rows, wrong in one way";
  static constexpr ls_field kFields[] = {sdk::ignored_layers_field()};
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "faulty")};
  struct Config {
    std::vector<std::string> ignored_layers;
  };

  static Config configure(const sdk::Values& values) {
    if (has_fault("configure")) sdk::fail(LS_INVALID_CONFIG, "no thanks");
    return {values.texts("ignored_layers")};
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return has_fault("ignored") ? nullptr : sdk::ignored_by(config.ignored_layers, layer);
  }

  static void plan(const Config&, const sdk::Layer& layer, const sdk::Target&, sdk::Plan& plan) {
    if (has_fault("crash")) std::abort();
    if (has_fault("hang")) sleep(1000);
    if (has_fault("exit")) std::exit(0);
    if (!layer.is_matrix() || layer.groups() > 1) return plan.unsupported("needs one matrix");
    // Bytes that a file can't tell from packed codes: the method would have to say their width.
    const uint32_t dtype = has_fault("width") ? LS_DTYPE_U8 : LS_DTYPE_I8;
    plan.stored("weight", dtype, {layer.out(), layer.get(0, "weight").columns()});
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
    if (has_fault("impure_plan")) work.note = ++calls;
    if (has_fault("wrong_bound")) work.weight_error = 0.0001;
    if (has_fault("no_bound")) work.weight_error = 0;
    if (has_fault("unrounded_activations")) work.activation_error = 0.5 / 127;
  }

  static void feed(const Config&, const sdk::Layer& layer, const sdk::Begin& begin,
                   const sdk::Piece& piece) {
    const auto codes = begin.stored().as<int8_t>(0);
    const auto scales = begin.stored().as<float>(1);
    const uint64_t in = layer.in();
    const std::span<float> row(piece.scratch<float>(), in);
    if (has_fault("scratch")) piece.scratch<char>()[in * sizeof(float)] = 1;
    if (has_fault("writes_source")) *static_cast<char*>(const_cast<void*>(piece.row(0))) ^= 1;
    if (has_fault("status") && sdk::cancelled()) {
      sdk::fail(LS_INTERNAL, "cancelled, says another status");
    }
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      sdk::widen(piece.tensor().dtype, piece.row(r), in, row.data());
      if (has_fault("silent_nan")) {
        for (float& value : row) value = std::isfinite(value) ? value : 0.0f;
      }
      sdk::require_finite(row, piece, r);
      const uint64_t out = piece.out_row() + r;
      float amax = 0;
      for (const float value : row) amax = std::max(amax, std::fabs(value));
      scales[out] = amax / 127.0f < 0x1p-126f ? 1.0f : amax / 127.0f;
      const bool is_last = out + 1 == layer.out();
      if (has_fault("unwritten") && is_last) continue;
      for (uint64_t c = 0; c < in; ++c) {
        codes[out * in + c] =
            static_cast<int8_t>(std::clamp(std::nearbyint(row[c] / scales[out]), -127.0f, 127.0f));
      }
      if (has_fault("by_piece") && piece.row_count() > 1) codes[out * in] = 1;
      if (has_fault("remembers")) codes[out * in] = static_cast<int8_t>(++calls);
      if (has_fault("zeros") && amax == 0) codes[out * in] = 1;
      if (has_fault("past_stored") && is_last) scales.data()[layer.out()] = 1;
      if (has_fault("before_stored") && out == 0) codes.data()[-1] = 1;
    }
  }

  static void dequantize(const Config&, const sdk::Layer& layer, const sdk::Rows& rows) {
    rows_of(rows.stored(), layer.in(), rows.begin(), rows.count(), rows.out(0).data());
    if (has_fault("by_range") && rows.begin() > 0) rows.out(0)[0] += 1e-3f;
    if (has_fault("past_rows")) rows.out(0).data()[rows.count() * layer.in()] = 0;
  }

  static void rows_of(const sdk::Buffers& stored, uint64_t in, uint64_t begin, uint64_t count,
                      float* out) {
    const auto codes = stored.as<const int8_t>(0);
    const auto scales = stored.as<const float>(1);
    for (uint64_t i = 0; i < count * in; ++i) {
      out[i] = static_cast<float>(codes[begin * in + i]) * scales[begin + i / in];
    }
  }

  struct Bound {
    Bound(const Config&, const sdk::Binding& b)
        : binding(b), blockwise(b.layer.kind(), 1, b.layer.out(), b.layer.in()) {}
    void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
      out.workspace_nbytes = blockwise.workspace_nbytes(m);
    }
    void apply(const ls_apply& call) const {
      const uint64_t in = binding.layer.in();
      blockwise.run(call, [this, in](uint32_t, uint64_t begin, uint64_t count, float* out) {
        rows_of(binding.stored, in, begin, count, out);
        for (uint64_t i = 0; i < count * in && has_fault("apply"); ++i) out[i] *= 1.0001f;
      });
      const uint64_t item = sdk::float_nbytes(call.y_dtype);
      if (has_fault("apply_past")) {
        const uint64_t last = (call.m - 1) * call.y_stride + binding.layer.out();
        static_cast<char*>(call.y)[last * item] = 7;
      }
      if (has_fault("workspace")) {
        static_cast<char*>(call.workspace)[blockwise.workspace_nbytes(call.m)] = 7;
      }
      if (has_fault("writes_x")) *static_cast<char*>(const_cast<void*>(call.x)) ^= 1;
    }
    sdk::Binding binding;
    sdk::BlockwiseApply blockwise;
  };
};

// ---- faults that the wrapper wouldn't let through ----------------------------------------------

int32_t (*right_plan)(const ls_config*, const ls_layer*, const ls_target*, ls_sink*);

/// Believes that every host knows today's structs; quantizes what is to be decoded.
int32_t plan_layer(const ls_config* config, const ls_layer* layer, const ls_target* target,
                   ls_sink* sink) {
  if (has_fault("reads_past")) {
    if (layer->path[0] == '\0') return LS_INVALID_ARGUMENT;
    return right_plan(config, layer, target, sink);
  }
  ls_layer changed = *layer;
  changed.want = LS_WANT_QUANTIZE;
  return right_plan(config, &changed, target, sink);
}

int32_t save_read(const ls_config*, const ls_layer*, uint64_t, const ls_buffer* const*, uint64_t,
                  uint64_t, uint64_t, uint64_t nbytes, void* out) {
  std::memset(out, 1, nbytes);
  return LS_OK;
}

}  // namespace

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  const ls_plugin* made = sdk::detail::describe<Faulty>(host, "faulty", "1.0", "MIT");
  if (made == nullptr) return nullptr;
  if (has_fault("calls_missing")) host->match(LS_STYLE_EXACT, "a", "a");
  static ls_method method = *made->methods[0];
  static const ls_method* const methods[] = {&method};
  static ls_plugin plugin = *made;
  if ((has_fault("reads_past") || has_fault("decodes")) && method.plan_layer != plan_layer) {
    right_plan = method.plan_layer;
    method.plan_layer = plan_layer;
  }
  if (has_fault("save")) method.save_read = save_read;
  plugin.methods = methods;
  return &plugin;
}
