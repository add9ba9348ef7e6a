// compressed_tensors: what llm-compressor and others write under quant_method compressed-tensors.
// README.md has the formats; common/scaled and common/mx read, multiply and save the layers.
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "compressed_tensors/declaration.hpp"
#include "compressed_tensors/form.hpp"

namespace loadstone::compressed_tensors {
namespace {

namespace dialect = common::dialect;

constexpr ls_field declared(ls_field field) {
  field.declared_only = 1;
  return field;
}

constexpr ls_field kAllFields[] = {
    sdk::field(LS_FIELD_TREE, "config_groups",
               "group: {targets, weights, input_activations, format}; needed"),
    sdk::field(LS_FIELD_TEXT, "format", "format of groups that name none of their own"),
    sdk::field(LS_FIELD_TEXTS, "ignore", "modules left out: whole names and re: patterns", "[]"),
    sdk::ignored_layers_field(),
    sdk::field(LS_FIELD_TREE, "kv_cache_scheme",
               "quantization of the KV cache; shown, attention decides"),
    declared(sdk::field(LS_FIELD_BOOL, "is_checkpoint_compressed_tensors_serialized",
                        "the checkpoint declares this method", "false")),
};

constexpr dialect::Known kUnread[] = {
    {"input_scale", "activations are not scaled by it here"},
    {"input_global_scale", "activations are not scaled by it here"},
    {"k_scale", "scale of the KV cache, which this layer doesn't quantize"},
    {"v_scale", "scale of the KV cache, which this layer doesn't quantize"},
    {"q_scale", "scale of attention, which this layer doesn't quantize"},
};

struct CompressedTensors : dialect::Method<CompressedTensors, Config> {
  static constexpr const char* kName = "compressed_tensors";
  static constexpr const char* kSummary =
      "FP8, INT8, packed integers, NVFP4 and MX checkpoints of llm-compressor";
  static constexpr auto& kFields = kAllFields;
  static constexpr auto& kKnown = kUnread;
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "compressed-tensors")};

  static Config configure(const sdk::Values& values) {
    return compressed_tensors::configure(values);
  }

  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    compressed_tensors::read_declaration(node, out);
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    if (const char* entry = sdk::ignored_by(config.ignored_layers, layer)) return entry;
    return left_out_by(config.ignored, layer);
  }

  static std::optional<dialect::Reader> reader_of(const Config& config, const sdk::Layer& layer,
                                                  common::NoForm& instead) {
    auto reading = reading_of(config, layer, instead);
    if (!reading) return std::nullopt;
    return std::move(reading->reader);
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target& target,
                   sdk::Plan& out) {
    common::NoForm instead;
    const auto reading = reading_of(config, layer, instead);
    if (!reading) return instead.answer(out);
    const auto* spec = std::get_if<common::scaled::Spec>(&reading->reader);
    if (spec != nullptr && !common::scaled::knows_width(*spec, layer, out)) {
      out.quantize("packed_int");  // the host asks again
      return;
    }
    Method::plan(config, layer, target, out);
    const bool noted = out.verdict() == LS_VERDICT_QUANTIZE && !reading->note.empty();
    if (noted) out.reason(reading->note);
  }

  static std::string declaration(const Config& config) {
    return compressed_tensors::declaration(config);
  }
};

}  // namespace
}  // namespace loadstone::compressed_tensors

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::compressed_tensors::CompressedTensors>(
      host, "compressed_tensors", "1.0.0", "MIT");
}
