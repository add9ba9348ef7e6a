// msmodelslim: checkpoints that Huawei's msModelSlim writes, by their
// quant_model_description*.json. README.md has the types; common/scaled and common/mx read,
// multiply and save the layers.
#include "common/cpu.hpp"
#include "msmodelslim/declaration.hpp"
#include "msmodelslim/form.hpp"

namespace loadstone::msmodelslim {
namespace {

enum Claim : uint64_t { kDescription, kDictionary };

struct MsModelSlim : common::dialect::Method<MsModelSlim, msmodelslim::Config> {
  static constexpr const char* kName = "msmodelslim";
  static constexpr const char* kSummary =
      "INT8, INT4, FP8 and MX checkpoints of msModelSlim, on any processor";
  static constexpr const char* kAliases[] = {"ascend"};
  static constexpr auto& kFields = msmodelslim::kFields;
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quant_model_description.json"),
      sdk::claim("quantization_config", "msmodelslim"),
  };
  static constexpr common::dialect::Known kKnown[] = {
      {"weight_scale", "deq_scale holds it"},  // W8A8: some files have both
      {"linear.weight_scale", "deq_scale holds it"},
      {"scale_bias", "a constant of Ascend's int4 kernel, which this product has no use for"},
      {"linear.scale_bias",
       "a constant of Ascend's int4 kernel, which this product has no use for"},
  };

  static Config configure(const sdk::Values& values) { return msmodelslim::configure(values); }

  static void read_declaration(const sdk::Node& node, uint64_t claim, sdk::Declaration& out) {
    claim == kDescription ? read_description(node, out) : read_dictionary(node, out);
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return sdk::ignored_by(config.ignored_layers, layer);
  }

  static auto reader_of(const Config& config, const sdk::Layer& layer, common::NoForm& instead) {
    return msmodelslim::reader_of(config, layer, instead);
  }

  static std::string declaration(const Config& config) { return msmodelslim::declaration(config); }
};

}  // namespace
}  // namespace loadstone::msmodelslim

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::msmodelslim::MsModelSlim>(host, "msmodelslim",
                                                                               "1.0.0", "MIT");
}
