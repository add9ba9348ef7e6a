// modelopt: what NVIDIA's ModelOpt exports, in its own names. README.md has the algorithms;
// common/scaled and common/mx read, multiply and save the layers.
#include <algorithm>
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "common/layer/declared.hpp"
#include "common/mx/method.hpp"
#include "common/scaled/bound.hpp"
#include "modelopt/declaration.hpp"
#include "modelopt/form.hpp"

namespace loadstone::modelopt {
namespace {

namespace mx = common::mx;
namespace scaled = common::scaled;
using common::NoForm;

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

struct ModelOpt {
  using Config = modelopt::Config;

  static constexpr const char* kName = "modelopt";
  static constexpr const char* kSummary = "FP8, NVFP4, MX, INT8 and INT4 checkpoints of ModelOpt";
  static constexpr const char* kAliases[] = {"modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8"};
  static constexpr bool kDecodes = true;
  static constexpr auto& kFields = kAllFields;
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", "modelopt"),
      sdk::claim("quantization_config", "modelopt_fp4"),
      sdk::claim("quantization_config", "modelopt_mixed"),
      sdk::claim("quantization_config", "modelopt_mxfp8"),
      sdk::claim("hf_quant_config.json", "modelopt"),
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

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target&,
                   sdk::Plan& out) {
    NoForm instead;
    const auto reader = reader_of(config, layer, instead);
    if (!reader) return instead.answer(out);
    if (const auto* own = std::get_if<mx::Config>(&*reader)) {
      const auto form = mx::find_form(*own, layer, instead);
      if (!form) return instead.answer(out);
      mx::plan(*own, *form, layer, out);
    } else {
      const auto form = scaled::find_form(std::get<scaled::Spec>(*reader), layer, instead);
      if (!form || !scaled::agree_on_input(*form, out, instead)) return instead.answer(out);
      scaled::plan(*form, layer, out);
    }
    name_unused(layer, out);
  }

  struct Session {
    Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
        : reader(known_reader(config, layer)) {
      if (const auto* own = std::get_if<mx::Config>(&reader)) {
        mx.emplace(*own, layer, begin);
      } else {
        scaled.emplace(form_of(reader, layer), layer, begin);
      }
    }
    void feed(const sdk::Piece& piece) { mx ? mx->feed(piece) : scaled->feed(piece); }
    void end(const void*, uint32_t) { mx ? mx->end() : scaled->end(); }

    Reader reader;
    std::optional<mx::Session> mx;
    std::optional<scaled::Session> scaled;
  };

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const Reader reader = known_reader(config, layer);
    if (const auto* own = std::get_if<mx::Config>(&reader)) {
      mx::dequantize(*own, layer, rows);
    } else {
      scaled::dequantize(form_of(reader, layer), layer, rows);
    }
  }

  struct Bound {
    Bound(const Config& config, const sdk::Binding& binding)
        : reader(known_reader(config, binding.layer)) {
      if (const auto* own = std::get_if<mx::Config>(&reader)) {
        mx.emplace(*own, binding);
      } else {
        scaled.emplace(form_of(reader, binding.layer), binding);
      }
    }
    uint32_t variant(const ls_step& step) const { return mx ? mx->variant(step) : 0; }
    void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const {
      mx ? mx->sizes(variant, m, out) : scaled->sizes(m, out);
    }
    void prepare(const ls_apply& call) const { mx ? mx->prepare(call) : scaled->prepare(call); }
    void apply(const ls_apply& call) const { mx ? mx->apply(call) : scaled->apply(call); }

    Reader reader;
    std::optional<mx::Bound> mx;
    std::optional<scaled::Bound> scaled;
  };

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    const Reader reader = known_reader(config, layer);
    if (const auto* own = std::get_if<mx::Config>(&reader)) {
      mx::save_layer(*own, layer, sink);
    } else {
      scaled::save_layer(form_of(reader, layer), sink);
    }
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    const Reader reader = known_reader(config, layer);
    if (const auto* own = std::get_if<mx::Config>(&reader)) {
      mx::save_read(*own, layer, stored, index, offset, nbytes, out);
    } else {
      scaled::save_read(form_of(reader, layer), stored, index, offset, nbytes, out);
    }
  }

  static std::string declaration(const Config& config) { return modelopt::declaration(config); }

 private:
  static scaled::Form form_of(const Reader& reader, const sdk::Layer& layer) {
    NoForm instead;
    auto form = scaled::find_form(std::get<scaled::Spec>(reader), layer, instead);
    if (form) return std::move(*form);
    sdk::fail(LS_INVALID_ARGUMENT, "layer was not planned by this method: " + instead.reason);
  }

  /// Tensors that the tool writes and this layer's product doesn't read.
  static void name_unused(const sdk::Layer& layer, sdk::Plan& out) {
    struct Known {
      const char *name, *reason;
    };
    constexpr Known kKnown[] = {
        {"input_scale", "activations are not scaled by it here"},
        {"weight_scale_2", "the group scales hold it"},
        {"k_scale", "scale of the KV cache, which this layer doesn't quantize"},
        {"v_scale", "scale of the KV cache, which this layer doesn't quantize"},
        {"q_scale", "scale of attention, which this layer doesn't quantize"},
    };
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      if (is_read(tensor.index, out)) continue;
      for (const Known& known : kKnown) {
        if (tensor.suffix() == known.name) out.unused(tensor, known.reason);
      }
    }
  }

  static bool is_read(uint32_t tensor, const sdk::Plan& plan) {
    const auto reads = [&](const auto& one) { return one.tensor == tensor; };
    const auto& unused = plan.all_unused();
    return std::any_of(plan.all_sources().begin(), plan.all_sources().end(), reads) ||
           std::any_of(plan.all_identities().begin(), plan.all_identities().end(), reads) ||
           std::any_of(unused.begin(), unused.end(),
                       [&](const auto& one) { return one.first == tensor; });
  }
};

}  // namespace
}  // namespace loadstone::modelopt

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::modelopt::ModelOpt>(host, "modelopt", "1.0.0",
                                                                         "MIT");
}
