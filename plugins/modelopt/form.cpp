#include "modelopt/form.hpp"

#include <algorithm>

namespace loadstone::modelopt {
namespace {

using common::NoForm;
using common::scaled::Codes;
using common::scaled::Input;
using common::scaled::Scale;
using common::scaled::Spec;
using sdk::Layer;
using sdk::Tensor;

enum class Family { e4m3, packed, int8 };

Family family_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::fp8:
    case Algorithm::fp8_channel:
    case Algorithm::fp8_block:
    case Algorithm::mxfp8:
      return Family::e4m3;
    case Algorithm::int8:
    case Algorithm::int8_weights:
      return Family::int8;
    default:
      return Family::packed;
  }
}

bool is_mx(Algorithm algorithm) {
  return algorithm == Algorithm::mxfp8 || algorithm == Algorithm::mxfp4 ||
         algorithm == Algorithm::mxfp4_fp8;
}

bool is_family(Family family, uint32_t dtype) {
  if (family == Family::e4m3) return dtype == LS_DTYPE_F8_E4M3;
  if (family == Family::int8) return dtype == LS_DTYPE_I8;
  return dtype == LS_DTYPE_U8 || dtype == LS_DTYPE_I8;
}

/// The setting of the parts, which must agree. Errors (thrown): LS_INVALID_CHECKPOINT for a
/// quantized weight that no entry names, since nothing says what its codes are.
std::optional<Setting> setting_of(const Config& config, const Layer& layer, NoForm& instead) {
  std::optional<Setting> out;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    auto own = config.of(std::string(layer.part(i).path()));
    if (!own) own = config.of(std::string(layer.path()));
    const auto weight = layer.find(i, "weight");
    if (!own && weight && !weight->is_float()) {
      sdk::fail(LS_INVALID_CHECKPOINT,
                "quantized weight without an algorithm: " + common::full_name(layer, *weight) +
                    ": found " + common::dtype_name(weight->dtype) +
                    " and no entry of quantized_layers, expected one that names it");
    }
    if (i != 0 && !(own == out)) {
      instead.set(LS_VERDICT_SPLIT, "parts have different quant_algo");
      return std::nullopt;
    }
    out = own;
  }
  return out;
}

/// The first weight; null when no part has one.
std::optional<Tensor> first_weight(const Layer& layer) {
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    if (auto found = layer.find(i, "weight")) return found;
  }
  return std::nullopt;
}

bool is_single(const std::optional<Tensor>& scale) {
  return scale && scale->rank <= 1 && scale->columns() == 1;
}

Spec spec_of(const Config& config, const Setting& setting, const Layer& layer) {
  Spec spec;
  spec.method = "modelopt";
  spec.group = static_cast<uint64_t>(setting.group_size);
  spec.names[common::scaled::kPre] = "pre_quant_scale";
  const bool stored_input = layer.find(0, "input_scale").has_value();
  const auto fixed_or = [&](Input dynamic) {
    if (!stored_input) return dynamic;
    return dynamic == Input::int8_token ? Input::int8_fixed : Input::fp8_fixed;
  };
  switch (setting.algorithm) {
    case Algorithm::fp8:
      spec.input = config.dynamic ? fixed_or(Input::fp8_token) : Input::fp8_fixed;
      break;
    case Algorithm::fp8_channel:
      spec.scale = Scale::channel;
      spec.input = Input::fp8_token;
      break;
    case Algorithm::fp8_block:
      spec.block_rows = spec.block_columns = 128;
      // Layers that aren't whole blocks are written with one scale.
      if (is_single(layer.find(0, "weight_scale"))) {
        spec.input = fixed_or(Input::fp8_token);
      } else {
        spec.scale = Scale::block;
        spec.input = Input::fp8_group;
      }
      break;
    case Algorithm::int8:
      spec.codes = Codes::int8;
      spec.scale = Scale::channel;
      spec.input = fixed_or(Input::int8_token);
      break;
    case Algorithm::int8_weights:
      spec.codes = Codes::int8;
      spec.scale = Scale::channel;
      break;
    case Algorithm::int4_weights:
    case Algorithm::int4_fp8:
      spec.codes = Codes::int4;
      spec.scale = Scale::group;
      if (setting.algorithm == Algorithm::int4_fp8) spec.input = Input::fp8_fixed;
      break;
    default:
      spec.codes = Codes::e2m1;
      spec.scale = Scale::group;
      spec.names[common::scaled::kGlobal] = "weight_scale_2";
      spec.input = setting.algorithm == Algorithm::nvfp4       ? Input::nvfp4
                   : setting.algorithm == Algorithm::nvfp4_fp8 ? Input::fp8_fixed
                                                               : Input::none;
      if (spec.group == 0 && setting.algorithm != Algorithm::nvfp4_fp8) spec.group = 16;
  }
  const bool fixed = spec.input == Input::fp8_fixed || spec.input == Input::int8_fixed ||
                     spec.input == Input::nvfp4;
  if (fixed) spec.names[common::scaled::kInput] = "input_scale";
  return spec;
}

common::mx::Config mx_config(const Setting& setting, const Layer& layer) {
  common::mx::Config out;
  out.method = "modelopt";
  out.element =
      setting.algorithm == Algorithm::mxfp8 ? common::MxElement::e4m3 : common::MxElement::e2m1;
  out.serialized = true;
  if (setting.algorithm == Algorithm::mxfp4_fp8) {
    out.w4a8_layers.push_back(std::string(layer.path()));
  }
  return out;
}

}  // namespace

std::optional<Reader> reader_of(const Config& config, const Layer& layer, NoForm& instead) {
  const auto weight = first_weight(layer);
  if (!weight || weight->is_float()) {
    if (config.serialized || layer.wants_decode()) {
      instead.set(LS_VERDICT_KEEP, "stored unquantized in the checkpoint");
    } else {
      instead.set(LS_VERDICT_UNSUPPORTED, "found plain weights, expected " + config.algorithm_name +
                                              ": ModelOpt checkpoints are read, not made");
    }
    return std::nullopt;
  }
  if (config.algorithm_name.empty()) {
    sdk::fail(LS_INVALID_CONFIG, "quant_algo missing: found " + common::dtype_name(weight->dtype) +
                                     " weights, expected " + algorithm_names() +
                                     " in the configuration or the checkpoint's declaration");
  }
  const auto setting = setting_of(config, layer, instead);
  if (!setting) return std::nullopt;
  const Family family = family_of(setting->algorithm);
  if (!is_family(family, weight->dtype)) {
    sdk::fail(LS_INVALID_CHECKPOINT,
              "weight of another algorithm: " + common::full_name(layer, *weight) + ": found " +
                  common::dtype_name(weight->dtype) + ", expected " +
                  (family == Family::e4m3   ? "F8_E4M3"
                   : family == Family::int8 ? "I8"
                                            : "U8") +
                  " (" + config.algorithm_name + ")");
  }
  if (is_mx(setting->algorithm)) return mx_config(*setting, layer);
  return spec_of(config, *setting, layer);
}

}  // namespace loadstone::modelopt
