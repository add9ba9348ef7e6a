// stamp: a method for tests of the runtime. It keeps the weight as it is; prepare writes a running
// number into the activation, apply writes y = number + step/1000 + bias into every column, so that
// a test sees who prepared what, and when.
#include <atomic>
#include <cmath>
#include <loadstone/plugin.hpp>

namespace {

namespace sdk = loadstone::sdk;

constexpr const char* kCalls[] = {"none", "bind", "sizes", "prepare", "apply"};

struct Stamp {
  static constexpr const char* kName = "stamp";
  static constexpr const char* kSummary = "shows what the runtime asks of a method";
  static constexpr bool kSaves = false;
  static constexpr ls_field kFields[] = {
      sdk::integer_field("key", "layers of equal keys share an activation (0: none do)", "1", 0, 9),
      sdk::choice_field("fail", "the call that fails", "\"none\"", kCalls),
  };

  struct Config {
    uint8_t key = 1;
    std::string fail;
    void check(std::string_view call) const {
      if (fail == call) sdk::fail(LS_INTERNAL, "asked to fail");
    }
  };

  static Config configure(const sdk::Values& values) {
    return {static_cast<uint8_t>(values.integer("key")), std::string(values.text("fail"))};
  }

  static void plan(const Config&, const sdk::Layer& layer, const sdk::Target&, sdk::Plan& plan) {
    const sdk::Tensor weight = layer.get(0, "weight");
    const uint32_t stored = plan.stored("weight", weight.dtype, {layer.out(), layer.in()});
    plan.identity_part(layer, stored, weight);
    plan.quantize("stamp");
  }

  static void dequantize(const Config&, const sdk::Layer& layer, const sdk::Rows& rows) {
    for (uint64_t r = 0; r < rows.count(); ++r) {
      for (uint64_t c = 0; c < layer.in(); ++c) rows.out(r)[c] = 0;
    }
  }

  struct Bound {
    Bound(const Config& given, const sdk::Binding& binding)
        : config(given), out(binding.layer.out()) {
      config.check("bind");
    }
    uint32_t variant(const ls_step& step) const { return step.index; }
    void sizes(uint32_t, uint64_t, ls_sizes& sizes) const {
      config.check("sizes");
      sizes.activation_nbytes = sizeof(uint64_t);
      sizes.key_nbytes = config.key != 0 ? 1 : 0;
      sizes.key[0] = config.key;
    }
    void prepare(const ls_apply& call) const {
      config.check("prepare");
      static std::atomic<uint64_t> count{0};
      *static_cast<uint64_t*>(call.activation) = ++count;
    }
    void apply(const ls_apply& call) const {
      config.check("apply");
      const auto number = static_cast<float>(*static_cast<const uint64_t*>(call.activation));
      for (uint64_t r = 0; r < call.m; ++r) {
        float* row = static_cast<float*>(call.y) + r * call.y_stride;
        for (uint64_t c = 0; c < out; ++c) {
          row[c] = number + static_cast<float>(call.variant) / 1000.0f;
          if (call.bias != nullptr) row[c] += static_cast<const float*>(call.bias)[c];
        }
      }
    }
    Config config;
    uint64_t out;
  };
};

/// Another method with the same keys.
struct StampToo : Stamp {
  static constexpr const char* kName = "stamp_too";
};

}  // namespace

LOADSTONE_PLUGIN("stamp", "0.1.0", "Apache-2.0", Stamp, StampToo)
