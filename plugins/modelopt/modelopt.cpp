// modelopt: what NVIDIA's ModelOpt exports, in its own names. README.md has the algorithms;
// common/scaled and common/mx read, multiply and save the layers.
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "modelopt/declaration.hpp"
#include "modelopt/form.hpp"

namespace loadstone::modelopt {
namespace {

constexpr const char* kSchemes[] = {"static", "dynamic"};

constexpr ls_field declared(ls_field field) {
  field.declared_only = 1;
  return field;
}

constexpr ls_field kAllFields[] = {
    sdk::field(LS_FIELD_TEXT, "quant_algo", "the algorithm, as ModelOpt names it; needed"),
    sdk::integer_field("group_size", "columns that share a scale", nullptr, 1, 1 << 24),
    sdk::field(LS_FIELD_TREE, "quantized_layers",
               "MIXED_PRECISION: layer: {quant_algo, group_size}; others are kept"),
    sdk::field(LS_FIELD_TEXTS, "exclude_modules", "modules left out, stars at dots only", "[]"),
    sdk::field(LS_FIELD_TEXTS, "ignore", "exclude_modules by its other name", "[]"),
    sdk::ignored_layers_field(),
    sdk::choice_field("activation_scheme",
                      "FP8 without a stored input scale: static refuses, dynamic scales per token",
                      "\"static\"", kSchemes),
    sdk::field(LS_FIELD_TEXT, "kv_cache_quant_algo",
               "quantization of the KV cache; shown, attention decides"),
    sdk::field(LS_FIELD_TREE, "kv_cache_scheme", "the same in compressed-tensors' words; shown"),
    sdk::field(
        LS_FIELD_TREE, "config_groups",
        "groups in compressed-tensors' words; weights alone when none has input_activations"),
    sdk::field(LS_FIELD_TREE, "quantization", "the form of hf_quant_config.json: these fields"),
    sdk::field(LS_FIELD_TREE, "producer", "who wrote the dictionary; not used"),
    declared(sdk::field(LS_FIELD_BOOL, "is_checkpoint_modelopt_serialized",
                        "the checkpoint declares this method", "false")),
};

struct ModelOpt : common::dialect::Method<ModelOpt, modelopt::Config> {
  static constexpr const char* kName = "modelopt";
  static constexpr const char* kSummary = "FP8, NVFP4, MX, INT8 and INT4 checkpoints of ModelOpt";
  static constexpr const char* kAliases[] = {"modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8"};
  static constexpr auto& kFields = kAllFields;
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", "modelopt"),
      sdk::claim("quantization_config", "modelopt_fp4"),
      sdk::claim("quantization_config", "modelopt_mixed"),
      sdk::claim("quantization_config", "modelopt_mxfp8"),
      sdk::claim("hf_quant_config.json", "modelopt"),
  };

  // What the tool writes and a layer's product may not read.
  static constexpr common::dialect::Known kKnown[] = {
      {"input_scale", "activations are not scaled by it here"},
      {"weight_scale_2", "the group scales hold it"},
      {"k_scale", "scale of the KV cache, which this layer doesn't quantize"},
      {"v_scale", "scale of the KV cache, which this layer doesn't quantize"},
      {"q_scale", "scale of attention, which this layer doesn't quantize"},
  };

  static Config configure(const sdk::Values& values) { return modelopt::configure(values); }

  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    modelopt::read_declaration(node, out);
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    if (const char* entry = sdk::ignored_by(config.ignored_layers, layer)) return entry;
    if (const char* entry = excluded_by(config.excluded, layer)) return entry;
    return left_out(config, layer) ? "quantized_layers" : nullptr;
  }

  static auto reader_of(const Config& config, const sdk::Layer& layer, common::NoForm& instead) {
    return modelopt::reader_of(config, layer, instead);
  }

  static std::string declaration(const Config& config) { return modelopt::declaration(config); }
};

}  // namespace
}  // namespace loadstone::modelopt

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::modelopt::ModelOpt>(host, "modelopt", "1.0.0",
                                                                         "MIT");
}
