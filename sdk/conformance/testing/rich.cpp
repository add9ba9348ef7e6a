// A method that uses what the templates don't: two passes with statistics, experts, values asked
// for while planning, checked identities, a kernel's layout, activations quantized once by prepare.
//
//   weight_scale = max|w| / 127 over a group's matrix, q = round_half_even(w / weight_scale)
//   x_scale      = max|x| / 127 over a row of x; y = x_scale · (weight_scale · Σ qx·q)
//
// Stored: weight I8 [out, in] or [groups, out, in], weight_scale F32 [groups].
#include <cmath>
#include <loadstone/plugin.hpp>

namespace {

namespace sdk = loadstone::sdk;

float scale_of(float amax) { return amax / 127.0f < 0x1p-126f ? 1.0f : amax / 127.0f; }

int8_t round_to(float value, float scale) {
  return static_cast<int8_t>(std::clamp(std::nearbyint(value / scale), -127.0f, 127.0f));
}

struct Rich {
  static constexpr const char* kName = "rich";
  static constexpr const char* kSummary = "int8 with int8 activations, one scale a matrix";
  static constexpr const char* kAliases[] = {"rich_int8"};
  static constexpr ls_field kFields[] = {
      sdk::ignored_layers_field(),
  };
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "rich")};

  struct Config {};

  static void plan(const Config&, const sdk::Layer& layer, const sdk::Target&, sdk::Plan& plan) {
    if (!layer.is_matrix()) return plan.unsupported("needs matrices");
    const uint64_t groups = layer.groups();
    const uint32_t weight =
        groups > 1 ? plan.stored("weight", LS_DTYPE_I8, {groups, layer.out(), layer.in()})
                   : plan.stored("weight", LS_DTYPE_I8, {layer.out(), layer.in()});
    plan.stored("weight_scale", LS_DTYPE_F32, {groups}, 128);
    uint64_t floats = 0;
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      if (layer.get(p, "weight").is_float()) ++floats;
    }
    if (floats == layer.part_count()) return plan_online(layer, plan);
    if (floats != 0) return plan.split("some parts are serialized, some are not");
    plan_serialized(layer, weight, plan);
  }

  struct Session {
    const Config& config;
    const sdk::Layer& layer;
    const sdk::Begin& begin;

    void feed(const sdk::Piece& piece) const {
      if (piece.is_identity()) return check_codes(piece);
      const sdk::Tensor tensor = piece.tensor();
      const uint64_t in = layer.in();
      const std::span<float> row(piece.scratch<float>(), in);
      const uint32_t group = tensor.group - begin.group_begin();
      for (uint64_t r = 0; r < piece.row_count(); ++r) {
        sdk::widen(tensor.dtype, piece.row(r), in, row.data());
        if (piece.pass() == 1) {
          sdk::require_finite(row, piece, r);
          float& amax = piece.stat<float>()[group];
          for (const float value : row) amax = std::max(amax, std::fabs(value));
          continue;
        }
        const float scale = scale_of(piece.stat<float>()[group]);
        int8_t* codes = begin.stored().as<int8_t>(0).data() +
                        (tensor.group * layer.out() + piece.out_row() + r) * in;
        for (uint64_t c = 0; c < in; ++c) codes[c] = round_to(row[c], scale);
      }
    }

    void check_codes(const sdk::Piece& piece) const {
      for (uint64_t r = 0; r < piece.row_count(); ++r) {
        const auto* codes = static_cast<const int8_t*>(piece.row(r));
        for (uint64_t c = 0; c < layer.in(); ++c) {
          if (codes[c] == -128) sdk::fail(LS_INVALID_CHECKPOINT, "found code -128");
        }
      }
    }

    void end(const void* stat, uint32_t) const {
      const auto scales = begin.stored().as<float>(1);
      for (uint32_t g = 0; g < begin.group_count(); ++g) {
        if (stat != nullptr) {
          scales[begin.group_begin() + g] = scale_of(static_cast<const float*>(stat)[g]);
        }
      }
      for (uint64_t i = 0; i < begin.raw().source_count && stat == nullptr; ++i) {
        if (begin.raw().resident[i] == nullptr) continue;  // of another session's group
        const sdk::Tensor scale = layer.tensor(begin.source(i).tensor);
        scales[scale.group] = begin.resident().as<const float>(i)[0];
      }
    }
  };

  static void merge(const Config&, const sdk::Layer&, uint32_t groups, void* into,
                    const void* from) {
    for (uint32_t g = 0; g < groups; ++g) {
      float& best = static_cast<float*>(into)[g];
      best = std::max(best, static_cast<const float*>(from)[g]);
    }
  }

  static void dequantize(const Config&, const sdk::Layer& layer, const sdk::Rows& rows) {
    const auto codes = rows.stored().as<const int8_t>(0);
    const float scale = rows.stored().as<const float>(1)[rows.group()];
    for (uint64_t r = 0; r < rows.count(); ++r) {
      const uint64_t row = rows.group() * layer.out() + rows.begin() + r;
      for (uint64_t c = 0; c < layer.in(); ++c) {
        rows.out(r)[c] = static_cast<float>(codes[row * layer.in() + c]) * scale;
      }
    }
  }

  /// Even bytes first, odd ones behind.
  static void repack(const Config&, const sdk::Layer&, uint64_t, bool inverse,
                     const ls_buffer& canonical, const ls_buffer& packed, void*) {
    const uint64_t half = (canonical.nbytes + 1) / 2;
    auto* plain = static_cast<char*>(canonical.at);
    auto* mixed = static_cast<char*>(packed.at);
    for (uint64_t i = 0; i < canonical.nbytes; ++i) {
      char& place = mixed[i % 2 == 0 ? i / 2 : half + i / 2];
      if (inverse) {
        plain[i] = place;
      } else {
        place = plain[i];
      }
    }
  }

  struct Bound {
    Bound(const Config& c, const sdk::Binding& b)
        : config(c),
          binding(b),
          rows(b.layer.kind(), b.layer.groups(), b.layer.out(), b.layer.in()) {}

    bool gathers() const { return binding.layer.kind() == LS_KIND_GATHER; }
    uint32_t variant(const ls_step& step) const { return step.prefill != 0 ? 1 : 0; }
    void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
      out.workspace_nbytes =
          gathers() ? rows.workspace_nbytes(m)
                    : (m * binding.layer.out() + m * binding.layer.in()) * sizeof(float);
      if (gathers()) return;
      out.activation_nbytes = m * (sizeof(float) + binding.layer.in());
      out.key_nbytes = 8;
      std::memcpy(out.key, "rich row", 8);
    }
    void prepare(const ls_apply& call) const {
      const uint64_t in = binding.layer.in();
      auto* scales = static_cast<float*>(call.activation);
      auto* codes = reinterpret_cast<int8_t*>(scales + call.m);
      auto* row = static_cast<float*>(call.workspace);
      for (uint64_t i = 0; i < call.m; ++i) {
        const char* x =
            static_cast<const char*>(call.x) + i * call.x_stride * sdk::float_nbytes(call.x_dtype);
        sdk::widen(call.x_dtype, x, in, row);
        float amax = 0;
        for (uint64_t k = 0; k < in; ++k) amax = std::max(amax, std::fabs(row[k]));
        scales[i] = scale_of(amax);
        for (uint64_t k = 0; k < in; ++k) codes[i * in + k] = round_to(row[k], scales[i]);
      }
    }
    void apply(const ls_apply& call) const {
      if (gathers()) {
        return rows.run(call, [this](uint32_t g, uint64_t begin, uint64_t count, float* out) {
          ls_rows wanted = sdk::make<ls_rows>();
          wanted.group = g;
          wanted.row_begin = begin;
          wanted.row_count = count;
          wanted.stored = stored.data();
          wanted.stored_count = stored.size();
          wanted.out = out;
          dequantize(config, binding.layer, sdk::Rows(&wanted, binding.layer.in()));
        });
      }
      uint64_t begin = 0;
      for (uint32_t g = 0; g < binding.layer.groups(); ++g) {
        const uint64_t end = call.group_end == nullptr ? call.m : call.group_end[g];
        if (end > begin) multiply(call, g, begin, end - begin);
        begin = end;
      }
    }
    void multiply(const ls_apply& call, uint32_t g, uint64_t begin, uint64_t count) const {
      const uint64_t in = binding.layer.in(), out = binding.layer.out();
      const auto* scales = static_cast<const float*>(call.activation);
      ls_gemm gemm = sdk::make<ls_gemm>();
      gemm.dtype = LS_DTYPE_I8;
      gemm.place = LS_PLACE_HOST;
      gemm.m = count;
      gemm.n = out;
      gemm.k = in;
      gemm.x = reinterpret_cast<const int8_t*>(scales + call.m) + begin * in;
      gemm.w = binding.stored.as<const int8_t>(0).data() + g * out * in;
      gemm.y = static_cast<float*>(call.workspace);
      gemm.x_scale = scales + begin;
      gemm.x_per_row = 1;
      gemm.w_scale = binding.stored.as<const float>(1).data() + g;
      sdk::check_host(sdk::host().gemm(&gemm), "gemm");
      for (uint64_t i = 0; i < count; ++i) {
        float* line = gemm.y + i * out;
        for (uint64_t j = 0; j < out && call.bias != nullptr; ++j) {
          line[j] += static_cast<const float*>(call.bias)[j];
        }
        sdk::narrow(call.y_dtype, line, out,
                    static_cast<char*>(call.y) +
                        (begin + i) * call.y_stride * sdk::float_nbytes(call.y_dtype));
      }
    }

    const Config& config;
    sdk::Binding binding;
    sdk::BlockwiseApply rows;
    ls_buffer copies[2] = {binding.stored.raw(0), binding.stored.raw(1)};
    std::array<const ls_buffer*, 2> stored = {&copies[0], &copies[1]};
  };

 private:
  static void plan_online(const sdk::Layer& layer, sdk::Plan& plan) {
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      plan.streamed_part(layer, layer.get(p, "weight"), p % 2 + 2);
    }
    ls_work& work = finish(plan);
    work.passes = 2;
    work.stat_nbytes = sizeof(float);
    work.feed_scratch = layer.in() * sizeof(float);
    work.weight_error = 0.5 / 127 * (1 + 1e-5);
  }

  static void plan_serialized(const sdk::Layer& layer, uint32_t weight, sdk::Plan& plan) {
    bool known = true;
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      known = plan.needs_value(layer.get(p, "weight_scale")) && known;
    }
    if (!known) return plan.keep("asks for the scales first");
    uint32_t scaled = UINT32_MAX;  // the group whose scale is read already
    float scale = 0;
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      const sdk::Tensor codes = layer.get(p, "weight");
      const sdk::Tensor own = layer.get(p, "weight_scale");
      ls_identity rows = sdk::make<ls_identity>();
      rows.stored = weight;
      rows.tensor = codes.index;
      rows.checked = 1;
      rows.rows = layer.part(p).out_count;
      rows.row_nbytes = rows.src_stride = rows.dst_stride = layer.in();
      rows.src_offset = layer.part(p).file_begin * layer.in();
      rows.dst_offset = (own.group * layer.out() + layer.part(p).out_begin) * layer.in();
      plan.identity(rows);
      float value = 0;
      std::memcpy(&value, own.value, sizeof value);
      if (own.group == scaled && value != scale) return plan.split("parts differ in scale");
      if (own.group == scaled) continue;
      plan.resident(own);
      scaled = own.group;
      scale = value;
    }
    finish(plan);
  }

  static ls_work& finish(sdk::Plan& plan) {
    plan.repack(0, plan_nbytes(plan) + 3, 256);
    ls_work& work = plan.quantize("rich_gemm");
    work.activation_error = 0.5 / 127 * (1 + 1e-5);
    return work;
  }
  static uint64_t plan_nbytes(const sdk::Plan& plan) {
    uint64_t nbytes = 1;
    for (const uint64_t axis : plan.all_stored()[0].shape) nbytes *= axis;
    return nbytes;
  }
};

}  // namespace

LOADSTONE_PLUGIN("rich", "1.0", "MIT", Rich)
