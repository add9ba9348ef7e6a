#include "compressed_tensors/form.hpp"

#include <algorithm>

namespace loadstone::compressed_tensors {
namespace {

using common::NoForm;
using common::scaled::Codes;
using common::scaled::Input;
using common::scaled::Scale;
using common::scaled::Spec;
using sdk::Layer;
using sdk::Tensor;

constexpr const char* kMethod = "compressed_tensors";

/// A part's weight, under either name.
std::optional<Tensor> weight_of(const Layer& layer, uint64_t part) {
  auto found = layer.find(part, "weight_packed");
  return found ? found : layer.find(part, "weight");
}

bool is_plain(const std::optional<Tensor>& weight) { return !weight || weight->is_float(); }

/// What the parts are: all quantized, or (with the verdict) plain or mixed.
bool are_quantized(const Config& config, const Layer& layer, NoForm& instead) {
  uint64_t plain = 0;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const auto weight = weight_of(layer, i);
    if (!is_plain(weight)) continue;
    ++plain;
    if (!weight || !config.serialized || !layer.find(i, "weight_scale")) continue;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "weight is plain beside its scale: " + common::full_name(layer, *weight) +
                  ": found " + common::dtype_name(weight->dtype) +
                  ", expected codes: weights that are rounded while running are not read");
  }
  if (plain == 0 && layer.part_count() != 0) return true;
  if (plain < layer.part_count()) {
    return instead.set(LS_VERDICT_SPLIT, "some parts are quantized, some stored as they were");
  }
  if (config.serialized || layer.wants_decode()) {
    return instead.set(LS_VERDICT_KEEP, "stored unquantized in the checkpoint");
  }
  return instead.set(LS_VERDICT_UNSUPPORTED,
                     "found plain weights, expected quantized ones: compressed-tensors checkpoints "
                     "are read, not made");
}

/// The scheme of all parts.
const Scheme* common_scheme(const Config& config, const Layer& layer, NoForm& instead) {
  if (config.schemes.empty()) {
    sdk::fail(LS_INVALID_CONFIG, "config_groups missing: found " +
                                     common::dtype_name(weight_of(layer, 0)->dtype) +
                                     " weights, expected a scheme in the configuration or the "
                                     "checkpoint's declaration");
  }
  const Scheme* first = nullptr;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const Scheme* own = scheme_of(config, layer, layer.part(i).path());
    if (own == nullptr) own = scheme_of(config, layer, layer.path());
    if (own == nullptr || !own->quantizes) {
      sdk::fail(
          LS_INVALID_CHECKPOINT,
          "quantized weight without a scheme: " + common::full_name(layer, *weight_of(layer, i)) +
              ": found it in no target of config_groups that has weights, expected one");
    }
    if (i != 0 && own != first) {
      instead.set(LS_VERDICT_SPLIT,
                  "parts have different schemes: " + first->name + " and " + own->name);
      return nullptr;
    }
    first = own;
  }
  return first;
}

struct Layout {
  const char* weight;
  uint32_t dtype;
  const char* dtype_name;
};

Layout layout_of(Format format) {
  switch (format) {
    case Format::floats:
    case Format::mxfp8:
      return {"weight", LS_DTYPE_F8_E4M3, "F8_E4M3"};
    case Format::integers:
      return {"weight", LS_DTYPE_I8, "I8"};
    case Format::packed:
      return {"weight_packed", LS_DTYPE_I32, "I32"};
    case Format::nvfp4:
    case Format::mxfp4:
      break;
  }
  return {"weight_packed", LS_DTYPE_U8, "U8"};
}

void check_layout(const Scheme& scheme, const Layer& layer) {
  const Layout layout = layout_of(scheme.format);
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const Tensor weight = *weight_of(layer, i);
    if (weight.suffix() == layout.weight && weight.dtype == layout.dtype) continue;
    sdk::fail(LS_INVALID_CHECKPOINT,
              "weight of another format: " + common::full_name(layer, weight) + ": found " +
                  common::dtype_name(weight.dtype) + ", expected \"" + layout.weight + "\" as " +
                  layout.dtype_name + " (" + format_name(scheme.format) + ")");
  }
}

Scale scale_of(Strategy strategy) {
  switch (strategy) {
    case Strategy::tensor:
      return Scale::tensor;
    case Strategy::group:
      return Scale::group;
    case Strategy::block:
      return Scale::block;
    default:
      return Scale::channel;
  }
}

Input input_of(Activation activation) {
  switch (activation) {
    case Activation::fp8_token:
      return Input::fp8_token;
    case Activation::fp8_static:
      return Input::fp8_fixed;
    case Activation::fp8_group:
      return Input::fp8_group;
    case Activation::int8_token:
      return Input::int8_token;
    case Activation::int8_static:
      return Input::int8_fixed;
    case Activation::int4_token:
      return Input::int4_token;
    case Activation::nvfp4:
      return Input::nvfp4;
    default:
      return Input::none;
  }
}

void name_integers(const Scheme& scheme, Spec& out) {
  out.bits = scheme.bits;
  out.signed_scales = true;
  if (!scheme.symmetric) out.names[common::scaled::kZero] = "weight_zero_point";
  out.codes = scheme.format == Format::packed ? Codes::words : Codes::int8;
  if (scheme.format != Format::packed) return;
  out.shape_name = "weight_shape";
  out.names[common::scaled::kOrder] = "weight_g_idx";
  out.needs_order = scheme.ordered;
}

Spec spec_of(const Scheme& scheme) {
  Spec out;
  out.method = kMethod;
  out.scale = scale_of(scheme.strategy);
  out.group = scheme.group_size;
  out.block_rows = scheme.block_rows;
  out.block_columns = scheme.block_columns;
  out.names[common::scaled::kWeight] = layout_of(scheme.format).weight;
  out.input = input_of(scheme.activation);
  if (out.input == Input::fp8_fixed || out.input == Input::int8_fixed) {
    out.names[common::scaled::kInput] = "input_scale";
  }
  if (scheme.format == Format::integers || scheme.format == Format::packed) {
    name_integers(scheme, out);
  } else if (scheme.format == Format::nvfp4) {
    out.codes = Codes::e2m1;
    out.order = common::Nvfp4Order::divided;
    out.names[common::scaled::kGlobal] = "weight_global_scale";
    if (out.input == Input::nvfp4) out.names[common::scaled::kInput] = "input_global_scale";
  }
  return out;
}

common::mx::Config mx_config(const Scheme& scheme, const Layer& layer) {
  common::mx::Config out;
  out.method = kMethod;
  out.element = scheme.format == Format::mxfp8 ? common::MxElement::e4m3 : common::MxElement::e2m1;
  out.serialized = true;
  out.weights_only = scheme.activation == Activation::none;
  if (scheme.format == Format::mxfp4) out.codes_name = "weight_packed";
  if (scheme.format == Format::mxfp4 && scheme.activation == Activation::mx_e4m3) {
    out.w4a8_layers.push_back(std::string(layer.path()));
  }
  return out;
}

/// Activation groups that would end inside a block: the product takes the activation as it is.
std::string why_weights_alone(const Spec& spec, const Layer& layer) {
  const uint64_t k = weight_of(layer, 0)->columns();
  if (spec.input != Input::fp8_group || k % spec.block_columns == 0) return "";
  return "K = " + std::to_string(k) + " is not whole activation groups of " +
         std::to_string(spec.block_columns) + ": the activation stays as it is";
}

}  // namespace

std::optional<Reading> reading_of(const Config& config, const Layer& layer, NoForm& instead) {
  if (!are_quantized(config, layer, instead)) return std::nullopt;
  const Scheme* scheme = common_scheme(config, layer, instead);
  if (scheme == nullptr) return std::nullopt;
  check_layout(*scheme, layer);
  if (scheme->format == Format::mxfp4 || scheme->format == Format::mxfp8) {
    return Reading{mx_config(*scheme, layer), ""};
  }
  Spec spec = spec_of(*scheme);
  std::string note = why_weights_alone(spec, layer);
  if (!note.empty()) spec.input = Input::none;
  return Reading{std::move(spec), std::move(note)};
}

}  // namespace loadstone::compressed_tensors
