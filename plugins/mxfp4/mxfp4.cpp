// mxfp4 and mxfp4_dualscale: weights as e2m1 in groups of 32 with power-of-two scales, activations
// alike (W4A4) or as e4m3 (W4A8), quantized while loading or read as serialized. README.md has the
// layouts, common/mx/form.hpp what a layer may hold, numeric-definitions section 4 the numbers.
#include <algorithm>
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "common/layer/declared.hpp"
#include "common/mx/autoround.hpp"
#include "common/mx/method.hpp"

namespace loadstone::mxfp4 {
namespace {

using common::mx::Config;

void refuse(const char* field, const std::string& found, const char* expected) {
  sdk::fail(LS_INVALID_CONFIG,
            std::string(field) + " rejected: found " + found + ", expected " + expected);
}

/// [A-Za-z_][A-Za-z_0-9]* segments, dots between; later ones may begin with a digit.
bool is_layer_name(const std::string& name) {
  const auto word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  bool begins = true;
  for (const char c : name) {
    if (c == '.' ? begins : !word(c) && !(c >= '0' && c <= '9')) return false;
    begins = c == '.';
  }
  return !begins && word(name[0]);
}

void read_fallback(const sdk::Values& values, Config& out) {
  out.w4a8_layers = values.texts("w4a8_fallback_layers");
  for (const std::string& name : out.w4a8_layers) {
    if (!is_layer_name(name)) refuse("w4a8_fallback_layers", "\"" + name + "\"", "layer paths");
  }
  out.w4a8_steps = values.integers("w4a8_fallback_steps");
  for (const int64_t step : out.w4a8_steps) {
    if (step < 0) refuse("w4a8_fallback_steps", std::to_string(step), "steps from 0");
  }
  std::sort(out.w4a8_layers.begin(), out.w4a8_layers.end());
  std::sort(out.w4a8_steps.begin(), out.w4a8_steps.end());
}

/// Says how activations are rounded while running: the user's word beats the checkpoint's.
constexpr ls_field of_the_run(ls_field field) {
  field.user_wins = 1;
  return field;
}

constexpr ls_field kFallbackLayers =
    of_the_run(sdk::field(LS_FIELD_TEXTS, "w4a8_fallback_layers",
                          "layers whose activations stay e4m3, by their whole path", "[]"));
constexpr ls_field kFallbackSteps =
    of_the_run(sdk::field(LS_FIELD_INTEGERS, "w4a8_fallback_steps",
                          "denoising steps, from 0, at which all activations stay e4m3", "[]"));

// ---- single scale ----------------------------------------------------------------------------

constexpr ls_field kSingleFields[] = {
    sdk::ignored_layers_field(),
    sdk::field(LS_FIELD_BOOL, "is_checkpoint_mxfp4_serialized",
               "the checkpoint holds mxfp4 weights; layers it holds otherwise are kept", "false"),
    of_the_run(sdk::integer_field("mxfp4_scale_alg", "0: OCP; 2: UOS, which cuts less", "0", 0, 2)),
    sdk::field(LS_FIELD_BOOL, "require_smooth_scale",
               "every serialized layer must have a mul_scale", "false"),
    kFallbackLayers,
    kFallbackSteps,
    common::mx::kWeightBits,
    common::mx::kActivationBits,
};

enum Claim : uint64_t { kNative, kAutoRound };

struct Mxfp4 : common::mx::Method {
  static constexpr const char* kName = "mxfp4";
  static constexpr const char* kSummary =
      "weights and activations in 4-bit floats under power-of-two scales, W4A4 or W4A8";
  static constexpr auto& kFields = kSingleFields;
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", "mxfp4"),
      sdk::claim("quantization_config", "auto-round", nullptr, "mx_fp4"),
  };

  static Config configure(const sdk::Values& values) {
    Config out;
    out.method = kName;
    out.element = common::MxElement::e2m1;
    const int64_t rule = values.integer("mxfp4_scale_alg");
    if (rule != 0 && rule != 2) refuse("mxfp4_scale_alg", std::to_string(rule), "0 or 2");
    out.rule = rule == 2 ? common::MxRule::uos : common::MxRule::ocp;
    out.serialized = values.boolean("is_checkpoint_mxfp4_serialized");
    out.require_mul_scale = values.boolean("require_smooth_scale");
    if (out.require_mul_scale && !out.serialized) {
      refuse("require_smooth_scale", "true without a serialized checkpoint",
             "is_checkpoint_mxfp4_serialized: true");
    }
    out.ignored_layers = values.texts("ignored_layers");
    read_fallback(values, out);
    common::mx::configure_bits(values, out);
    return out;
  }

  static void read_declaration(const sdk::Node& node, uint64_t claim, sdk::Declaration& out) {
    if (claim == kNative) {
      return common::read_declared(node, kSingleFields, "is_checkpoint_mxfp4_serialized", out);
    }
    out.boolean("is_checkpoint_mxfp4_serialized", true);
    common::mx::read_autoround(node, out);
  }

  static std::string declaration(const Config& config) {
    std::string out = R"({"quant_method":"mxfp4","is_checkpoint_mxfp4_serialized":true)";
    if (config.rule == common::MxRule::uos) out += R"(,"mxfp4_scale_alg":2)";
    if (config.require_mul_scale) out += R"(,"require_smooth_scale":true)";
    if (!config.w4a8_layers.empty()) {
      out += ",\"w4a8_fallback_layers\":" + common::json_list(config.w4a8_layers);
    }
    for (size_t i = 0; i < config.w4a8_steps.size(); ++i) {
      out += i == 0 ? ",\"w4a8_fallback_steps\":[" : ",";
      out += std::to_string(config.w4a8_steps[i]);
    }
    if (!config.w4a8_steps.empty()) out += "]";
    out += common::mx::declared_bits(config, common::MxElement::e2m1);
    return out + ",\"ignored_layers\":" + common::json_list(config.ignored_layers) + "}";
  }
};

// ---- dual scale ------------------------------------------------------------------------------

constexpr ls_field kDualFields[] = {
    sdk::ignored_layers_field(),
    sdk::field(LS_FIELD_BOOL, "is_checkpoint_serialized",
               "the checkpoint holds dual-scale weights; layers it holds otherwise are kept",
               "false"),
    sdk::integer_field("num_bf16_fallback_layers",
                       "leading blocks that are kept, of weights quantized here", "5", 0, 1e9),
    kFallbackLayers,
    kFallbackSteps,
};

struct Mxfp4DualScale : common::mx::Method {
  static constexpr const char* kName = "mxfp4_dualscale";
  static constexpr const char* kSummary =
      "weights and activations in 4-bit floats under two levels of scales, W4A4";
  static constexpr auto& kFields = kDualFields;
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "mxfp4_dualscale")};

  static Config configure(const sdk::Values& values) {
    Config out;
    out.method = kName;
    out.element = common::MxElement::e2m1;
    out.dual = true;
    out.serialized = values.boolean("is_checkpoint_serialized");
    out.leading_blocks = values.integer("num_bf16_fallback_layers");
    out.ignored_layers = values.texts("ignored_layers");
    read_fallback(values, out);
    if (!out.w4a8_layers.empty()) {
      refuse("w4a8_fallback_layers", "layers",
             "none with dual scales; did you mean method: mxfp4?");
    }
    if (!out.w4a8_steps.empty()) {
      refuse("w4a8_fallback_steps", "steps", "none with dual scales; did you mean method: mxfp4?");
    }
    return out;
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    if (const char* entry = common::mx::Method::ignored(config, layer)) return entry;
    const bool leads = !config.serialized && common::mx::is_leading(config, layer);
    return leads ? "num_bf16_fallback_layers" : nullptr;
  }

  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    common::read_declared(node, kDualFields, "is_checkpoint_serialized", out);
  }

  static std::string declaration(const Config& config) {
    return R"({"quant_method":"mxfp4_dualscale","is_checkpoint_serialized":true,)"
           R"("ignored_layers":)" +
           common::json_list(config.ignored_layers) + "}";
  }
};

}  // namespace
}  // namespace loadstone::mxfp4

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  using loadstone::mxfp4::Mxfp4;
  using loadstone::mxfp4::Mxfp4DualScale;
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<Mxfp4, Mxfp4DualScale>(host, "mxfp4", "1.0.0", "MIT");
}
