// toy: a method for tests of planning and loading. Its field `mode` picks what it asks of the host:
//
//   double     stored weight F32 = 2·w, streamed in granules
//   amax       two passes: weight F32 = w/amax, amax F32 [1]
//   resident   weight F32 = scale·w with a resident "scale"
//   value      the same, with the scale's value asked for while planning
//   identity   weight as it is; with a resident scale as a second identity
//   checked    weight as it is, all bytes seen; a byte 0xEE is refused
//   swapped    the two halves of the columns change places (strided identities)
//   packed     as double, with a kernel's layout that negates every value
//   split      parts apart, each as double
//   keep, unsupported    verdicts
//
// Weights are BF16 or F32. Scratch is checked for being alone: each feed marks it and looks again.
// With `on_gpu` it takes pieces on a GPU too: on the stand-in for one, whose memory is the host's
// and which runs functions of the host where kernels would be, in stream order. There a row that
// fails shows in the status word.
#include <dlfcn.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <loadstone/plugin.hpp>
#include <memory>
#include <thread>

namespace {

namespace sdk = loadstone::sdk;

constexpr const char* kModes[] = {"double",  "amax",   "resident", "value", "identity",   "checked",
                                  "swapped", "packed", "split",    "keep",  "unsupported"};

struct Toy {
  static constexpr const char* kName = "toy";
  static constexpr const char* kSummary = "what a method may ask of a load";
  static constexpr bool kSaves = false;
  static constexpr bool kCuda = true;
  static constexpr ls_field kFields[] = {
      sdk::choice_field("mode", "what it asks for", "\"double\"", kModes),
      sdk::integer_field("granule", "rows that come together", "1", 1, 1 << 20),
      sdk::integer_field("feed_scratch", "bytes of a running feed", "64", 0, 1 << 30),
      sdk::integer_field("session_scratch", "bytes of a session", "64", 0, 1 << 30),
      sdk::integer_field("on_gpu", "1: pieces may be fed on a GPU", "0", 0, 1),
      sdk::integer_field("fail_row", "the feed of this row fails (-1: none)", "-1", -1, 1 << 30),
  };

  struct Config {
    std::string mode;
    uint64_t granule = 1, feed_scratch = 0, session_scratch = 0;
    int64_t fail_row = -1;
    bool on_gpu = false;
    bool is(std::string_view name) const { return mode == name; }
  };

  static Config configure(const sdk::Values& values) {
    return {std::string(values.text("mode")),
            static_cast<uint64_t>(values.integer("granule")),
            static_cast<uint64_t>(values.integer("feed_scratch")),
            static_cast<uint64_t>(values.integer("session_scratch")),
            values.integer("fail_row"),
            values.integer("on_gpu") != 0};
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target&,
                   sdk::Plan& plan) {
    if (config.is("unsupported")) return plan.unsupported("found a layer, expected none");
    if (config.is("keep")) return plan.keep("left alone");
    if (config.is("split") && layer.part_count() > 1) return plan.split("parts apart");
    const sdk::Tensor first = layer.get(0, "weight");
    if (config.is("identity") || config.is("checked")) {
      const bool checked = config.is("checked");
      const uint32_t weight = plan.stored("weight", first.dtype, {layer.out(), layer.in()});
      for (uint64_t p = 0; p < layer.part_count(); ++p) {
        plan.identity_part(layer, weight, layer.get(p, "weight"), checked, 7);
      }
      if (auto scale = layer.find(0, "scale")) {
        plan.identity(plan.stored("scale", scale->dtype, {1}), *scale);
      }
    } else if (config.is("swapped")) {
      swapped(layer, plan, first);
    } else {
      produced(config, layer, plan);
    }
    if (plan.verdict() == LS_VERDICT_UNSUPPORTED) return;
    ls_work& work = plan.quantize("toy_" + config.mode);
    work.feed_scratch = config.feed_scratch;
    work.session_scratch = config.session_scratch;
    if (config.on_gpu) work.produce_on = LS_PLACE_ANY;
    if (!config.is("amax")) return;
    work.passes = 2;
    work.stat_nbytes = sizeof(float);
  }

  struct Session {
    const Config& config;
    const sdk::Layer& layer;
    const sdk::Begin& begin;
    std::atomic<uint64_t> rows_fed{0};

    Session(const Config& c, const sdk::Layer& l, const sdk::Begin& b)
        : config(c), layer(l), begin(b) {
      if (config.session_scratch == 0) return;
      char* const scratch = begin.scratch<char>();
      const uint64_t nbytes = config.session_scratch;
      in_order(begin.raw().stream, [=] { std::memset(scratch, 0x5a, nbytes); });
    }

    /// At once, or on a GPU in stream order.
    static void in_order(void* stream, std::function<void()> work) {
      if (stream == nullptr) return work();
      using Launch = int (*)(void*, void (*)(void*), void*);
      void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
      const auto launch = reinterpret_cast<Launch>(dlsym(driver, "cuLaunchHostFunc"));
      launch(
          stream,
          [](void* data) {
            const std::unique_ptr<std::function<void()>> own(
                static_cast<std::function<void()>*>(data));
            (*own)();
          },
          new std::function<void()>(std::move(work)));
    }

    void feed(const sdk::Piece& piece) {
      if (piece.raw().place == LS_PLACE_HOST) return feed_now(piece);
      in_order(piece.raw().stream, [this, raw = piece.raw()] {
        const sdk::Piece own(&raw, layer, begin);
        const auto row = static_cast<uint64_t>(config.fail_row);
        if (config.fail_row >= 0 && row >= own.row_begin() &&
            row - own.row_begin() < own.row_count()) {
          *begin.raw().trouble = static_cast<uint32_t>(row) + 1;
          return;
        }
        feed_now(own);
      });
    }

    void feed_now(const sdk::Piece& piece) {
      mark_scratch(piece, true);
      for (uint64_t r = 0; r < piece.row_count(); ++r) {
        if (static_cast<int64_t>(piece.row_begin() + r) == config.fail_row) {
          sdk::fail(LS_INVALID_CHECKPOINT,
                    "asked to fail at row " + std::to_string(config.fail_row));
        }
        if (piece.is_identity())
          look(piece, r);
        else
          row(piece, r);
      }
      rows_fed += piece.row_count();
      mark_scratch(piece, false);
    }

    void end(const void* stat, uint32_t trouble) {
      if (trouble != 0) {
        sdk::fail(LS_INVALID_CHECKPOINT, "asked to fail at row " + std::to_string(trouble - 1));
      }
      if (config.session_scratch != 0 &&
          begin.scratch<char>()[config.session_scratch - 1] != 0x5a) {
        sdk::fail(LS_INTERNAL, "the session's scratch was not its own");
      }
      if (!config.is("amax")) return;
      begin.stored().as<float>(1)[0] = *static_cast<const float*>(stat);
    }

    void mark_scratch(const sdk::Piece& piece, bool write) const {
      if (config.feed_scratch == 0) return;
      auto* scratch = piece.scratch<uint8_t>();
      const auto mine = static_cast<uint8_t>(
          std::hash<std::thread::id>{}(std::this_thread::get_id()) ^ piece.row_begin());
      for (uint64_t i : {uint64_t{0}, config.feed_scratch - 1}) {
        if (write)
          scratch[i] = mine;
        else if (scratch[i] != mine)
          sdk::fail(LS_INTERNAL, "scratch is shared");
      }
    }

    static void look(const sdk::Piece& piece, uint64_t r) {
      const auto* bytes = static_cast<const uint8_t*>(piece.row(r));
      const uint64_t count = piece.row_count() == 1 ? piece.raw().nbytes : piece.raw().row_stride;
      for (uint64_t i = 0; i < count; ++i) {
        if (bytes[i] == 0xee) sdk::fail(LS_INVALID_CHECKPOINT, "illegal code 0xee");
      }
      if (piece.tag() != 7) sdk::fail(LS_INTERNAL, "tag lost");
    }

    void row(const sdk::Piece& piece, uint64_t r) {
      const uint64_t in = layer.in();
      std::vector<float> values(in);
      sdk::widen(piece.tensor().dtype, piece.row(r), in, values.data());
      if (piece.pass() == 1 && config.is("amax")) {
        for (float value : values)
          *piece.stat<float>() = std::max(*piece.stat<float>(), std::fabs(value));
        return;
      }
      float factor = 2.0f;
      if (config.is("amax")) factor = 1.0f / *piece.stat<float>();
      if (config.is("resident") || config.is("value")) {
        factor = begin.resident().as<const float>(0)[0];
      }
      float* out = begin.stored().as<float>(0).data() + (piece.out_row() + r) * in;
      for (uint64_t c = 0; c < in; ++c) out[c] = values[c] * factor;
    }
  };

  static void merge(const Config&, const sdk::Layer&, uint32_t groups, void* into,
                    const void* from) {
    auto* a = static_cast<float*>(into);
    const auto* b = static_cast<const float*>(from);
    for (uint32_t g = 0; g < groups; ++g) a[g] = std::max(a[g], b[g]);
  }

  /// The weight as produced (an amax one times its amax).
  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const auto weight = rows.stored().as<const float>(0);
    const float factor = config.is("amax") ? rows.stored().as<const float>(1)[0] : 1.0f;
    for (uint64_t r = 0; r < rows.count(); ++r) {
      for (uint64_t c = 0; c < layer.in(); ++c) {
        rows.out(r)[c] = weight[(rows.begin() + r) * layer.in() + c] * factor;
      }
    }
  }

  static void repack(const Config&, const sdk::Layer&, uint64_t, bool, const ls_buffer& canonical,
                     const ls_buffer& packed, void*) {
    const auto* from = static_cast<const float*>(canonical.at);
    auto* to = static_cast<float*>(packed.at);
    for (uint64_t i = 0; i < packed.nbytes / sizeof(float); ++i) to[i] = -from[i];
  }

 private:
  static void swapped(const sdk::Layer& layer, sdk::Plan& plan, const sdk::Tensor& weight) {
    const uint32_t stored = plan.stored("weight", weight.dtype, {layer.out(), layer.in()});
    const uint64_t half = weight.row_nbytes / 2;
    for (uint64_t side = 0; side < 2; ++side) {
      ls_identity one = sdk::make<ls_identity>();
      one.stored = stored;
      one.tensor = weight.index;
      one.rows = weight.rows();
      one.row_nbytes = half;
      one.src_offset = side * half;
      one.dst_offset = (1 - side) * half;
      one.src_stride = one.dst_stride = weight.row_nbytes;
      plan.identity(one);
    }
  }

  static void produced(const Config& config, const sdk::Layer& layer, sdk::Plan& plan) {
    if (config.is("resident")) plan.resident(layer.get(0, "scale"));
    if (config.is("value")) {
      const sdk::Tensor scale = layer.get(0, "scale");
      if (!plan.needs_value(scale)) return;
      if (*static_cast<const float*>(scale.value) == 0) return plan.unsupported("scale is zero");
      ls_source known = sdk::make<ls_source>();
      known.tensor = scale.index;
      known.mode = LS_SOURCE_NEEDS_VALUE;
      known.row_count = 1;
      plan.source(known);
    }
    const uint32_t weight = plan.stored("weight", LS_DTYPE_F32, {layer.out(), layer.in()});
    if (config.is("amax")) plan.stored("amax", LS_DTYPE_F32, {1});
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      plan.streamed_part(layer, layer.get(p, "weight"), config.granule);
    }
    if (config.is("packed")) plan.repack(weight, layer.out() * layer.in() * sizeof(float), 128);
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      if (tensor.suffix() == "spare") plan.unused(tensor, "spare");
    }
  }
};

}  // namespace

LOADSTONE_PLUGIN("toy", "0.1.0", "Apache-2.0", Toy)
