// mxfp8: weights and activations as e4m3 in groups of 32 with power-of-two scales (W8A8), quantized
// while loading or read as serialized. README.md has the layout, common/mx/form.hpp what a layer
// may hold, numeric-definitions section 4 the numbers.
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "common/layer/declared.hpp"
#include "common/mx/autoround.hpp"
#include "common/mx/method.hpp"

namespace loadstone::mxfp8 {
namespace {

constexpr const char* kRules[] = {"ocp", "rceil"};

constexpr ls_field kAllFields[] = {
    sdk::ignored_layers_field(),
    sdk::field(LS_FIELD_BOOL, "is_checkpoint_mxfp8_serialized",
               "the checkpoint holds mxfp8 weights; layers it holds otherwise are kept", "false"),
    sdk::choice_field("scale_rule", "ocp cuts the largest values, rceil never does", "\"ocp\"",
                      kRules),
    common::mx::kWeightBits,
    common::mx::kActivationBits,
};

enum Claim : uint64_t { kNative, kAutoRound };

struct Mxfp8 : common::mx::Method {
  static constexpr const char* kName = "mxfp8";
  static constexpr const char* kSummary =
      "weights and activations in 8-bit floats under power-of-two scales, W8A8";
  static constexpr auto& kFields = kAllFields;
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", "mxfp8"),
      sdk::claim("quantization_config", "auto-round", nullptr, "mx_fp8"),
  };

  static Config configure(const sdk::Values& values) {
    Config out;
    out.method = kName;
    out.element = common::MxElement::e4m3;
    out.rule = values.text("scale_rule") == "rceil" ? common::MxRule::rceil : common::MxRule::ocp;
    out.serialized = values.boolean("is_checkpoint_mxfp8_serialized");
    out.ignored_layers = values.texts("ignored_layers");
    common::mx::configure_bits(values, out);
    return out;
  }

  static void read_declaration(const sdk::Node& node, uint64_t claim, sdk::Declaration& out) {
    if (claim == kNative) {
      return common::read_declared(node, kAllFields, "is_checkpoint_mxfp8_serialized", out);
    }
    out.boolean("is_checkpoint_mxfp8_serialized", true);
    common::mx::read_autoround(node, out);
  }

  static std::string declaration(const Config& config) {
    const bool rceil = config.rule == common::MxRule::rceil;
    return std::string(R"({"quant_method":"mxfp8","is_checkpoint_mxfp8_serialized":true)") +
           (rceil ? R"(,"scale_rule":"rceil")" : "") +
           common::mx::declared_bits(config, common::MxElement::e4m3) +
           ",\"ignored_layers\":" + common::json_list(config.ignored_layers) + "}";
  }
};

}  // namespace
}  // namespace loadstone::mxfp8

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::mxfp8::Mxfp8>(host, "mxfp8", "1.0.0", "MIT");
}
