#include "msmodelslim/form.hpp"

#include <algorithm>

namespace loadstone::msmodelslim {
namespace {

using common::NoForm;
using common::dialect::Reader;
using common::scaled::Codes;
using common::scaled::Input;
using common::scaled::Scale;
using common::scaled::Spec;
using sdk::Layer;
using sdk::Tensor;

/// Names of a layer's tensors: as they are, or below "linear" beside the scale "div.mul_scale".
struct Names {
  const char *weight, *scale, *offset, *outer, *deq_scale, *constant, *input, *input_offset;
};
constexpr Names kPlain = {"weight",    "weight_scale", "weight_offset", "weight_dual_scale",
                          "deq_scale", "quant_bias",   "input_scale",   "input_offset"};
constexpr Names kWrapped = {
    "linear.weight",    "linear.weight_scale", "linear.weight_offset", "linear.weight_dual_scale",
    "linear.deq_scale", "linear.quant_bias",   "linear.input_scale",   "linear.input_offset"};

constexpr const char* kSmooth = "div.mul_scale";

struct Weight {
  std::optional<Tensor> tensor;
  const Names* names = &kPlain;

  bool is_plain() const { return !tensor || tensor->is_float(); }
};

Weight weight_of(const Layer& layer, uint64_t part) {
  if (auto found = layer.find(part, kPlain.weight)) return {found, &kPlain};
  return {layer.find(part, kWrapped.weight), &kWrapped};
}

std::string dtypes_of(Type type) {
  switch (type) {
    case Type::fp8_dynamic:
    case Type::mxfp8:
      return "F8_E4M3";
    case Type::mxfp4:
    case Type::mxfp4_dualscale:
      return "U8 or F8_E4M3";
    default:
      return "I8";
  }
}

bool is_of(Type type, uint32_t dtype) {
  switch (type) {
    case Type::fp8_dynamic:
    case Type::mxfp8:
      return dtype == LS_DTYPE_F8_E4M3;
    case Type::mxfp4:
    case Type::mxfp4_dualscale:
      return dtype == LS_DTYPE_U8 || dtype == LS_DTYPE_I8 || dtype == LS_DTYPE_F8_E4M3;
    default:
      return dtype == LS_DTYPE_I8;
  }
}

bool is_mx(Type type) {
  return type == Type::mxfp8 || type == Type::mxfp4 || type == Type::mxfp4_dualscale;
}

common::mx::Config mx_config(Type type, const Layer& layer, const Names& names) {
  common::mx::Config out;
  out.method = "msmodelslim";
  out.element = type == Type::mxfp8 ? common::MxElement::e4m3 : common::MxElement::e2m1;
  out.dual = type == Type::mxfp4_dualscale;
  out.serialized = true;
  out.names = {names.weight, names.scale, names.outer,
               layer.find(0, kSmooth) ? kSmooth : "mul_scale"};
  out.smooths = true;
  return out;
}

/// Two rows a byte; older files have one code a byte.
bool is_packed(const Layer& layer, const Tensor& weight) {
  return weight.rows() != layer.part(weight.part).file_total;
}

Spec spec_of(Type type, const Layer& layer, const Weight& weight) {
  const Names& names = *weight.names;
  Spec spec;
  spec.method = "msmodelslim";
  spec.codes = Codes::int8;
  spec.scale = Scale::channel;
  spec.input = Input::int8_token;
  spec.names[common::scaled::kWeight] = names.weight;
  spec.names[common::scaled::kScale] = names.scale;
  spec.names[common::scaled::kPre] = layer.find(0, kSmooth) ? kSmooth : "mul_scale";
  if (layer.find(0, names.offset)) spec.names[common::scaled::kZero] = names.offset;
  spec.zeros_vanish = type != Type::w8a16;
  switch (type) {
    case Type::w8a8:
      spec.input = Input::int8_affine;
      spec.scale_holds_input = true;
      spec.names[common::scaled::kScale] = names.deq_scale;
      spec.names[common::scaled::kInput] = names.input;
      spec.names[common::scaled::kInputOffset] = names.input_offset;
      spec.names[common::scaled::kConstant] = names.constant;
      break;
    case Type::w8a16:
      spec.scale = Scale::group;  // one a row is a group of all columns
      spec.input = Input::none;
      break;
    case Type::fp8_dynamic:
      spec.codes = Codes::e4m3;
      spec.input = Input::fp8_token;
      break;
    case Type::w4a8_dynamic:
      if (is_packed(layer, *weight.tensor)) {
        spec.codes = Codes::int4;
      } else {
        spec.bits = 4;
      }
      break;
    case Type::w4a4_dynamic:
      spec.bits = 4;
      spec.input = Input::int4_token;
      break;
    default:
      break;
  }
  return spec;
}

[[noreturn]] void refuse(uint32_t status, const char* what, const Layer& layer,
                         const Tensor& tensor, const std::string& found) {
  sdk::fail(status,
            std::string(what) + ": " + common::full_name(layer, tensor) + ": found " + found);
}

/// A plain weight must have nothing of quantization beside it.
void check_plain(const Config& config, const Layer& layer, uint64_t part, const Weight& weight) {
  if (!weight.tensor || !config.serialized) return;
  for (const char* name : {weight.names->scale, weight.names->deq_scale, kSmooth}) {
    if (!layer.find(part, name)) continue;
    const bool smooth = name == std::string_view(kSmooth);
    refuse(smooth ? LS_UNSUPPORTED : LS_INVALID_CHECKPOINT,
           smooth ? "weight is smoothed and not quantized" : "weight is plain beside its scale",
           layer, *weight.tensor,
           common::dtype_name(weight.tensor->dtype) + " beside \"" + name + "\", expected codes");
  }
}

/// What the parts are: all quantized, or (with the verdict) plain or mixed.
bool are_quantized(const Config& config, const Layer& layer, NoForm& instead) {
  uint64_t plain = 0;
  std::string wanted;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const Weight weight = weight_of(layer, i);
    if (!weight.is_plain()) continue;
    ++plain;
    check_plain(config, layer, i, weight);
    const auto type = config.of(layer.component(), layer.part(i).path());
    if (type) wanted = name_of(*type);
  }
  if (plain == 0 && layer.part_count() != 0) return true;
  if (plain < layer.part_count()) {
    return instead.set(LS_VERDICT_SPLIT, "some parts are quantized, some stored as they were");
  }
  if (config.serialized || layer.wants_decode() || wanted.empty()) {
    return instead.set(LS_VERDICT_KEEP, "stored unquantized in the checkpoint");
  }
  return instead.set(LS_VERDICT_UNSUPPORTED, "found plain weights, expected " + wanted +
                                                 ": msModelSlim checkpoints are read, not made");
}

/// The type of a quantized part, which its weight's dtype bears out.
Type type_of(const Config& config, const Layer& layer, uint64_t part, const Weight& weight) {
  const Tensor& tensor = *weight.tensor;
  const auto type = config.of(layer.component(), layer.part(part).path());
  if (!type) {
    refuse(LS_INVALID_CHECKPOINT, "weight has no type", layer, tensor,
           common::dtype_name(tensor.dtype) +
               ", expected its type in quant_model_description.json (" + type_names() + ")");
  }
  if (!is_of(*type, tensor.dtype)) {
    refuse(LS_INVALID_CHECKPOINT, "weight of another type", layer, tensor,
           common::dtype_name(tensor.dtype) + ", expected " + dtypes_of(*type) + " (" +
               name_of(*type) + ")");
  }
  if (const auto second = layer.find(part, "weight_scale_second")) {
    refuse(LS_UNSUPPORTED, "scales of two levels are not read", layer, *second,
           "it beside \"weight_scale\", expected one level");
  }
  return *type;
}

}  // namespace

std::optional<Reader> reader_of(const Config& config, const Layer& layer, NoForm& instead) {
  if (!are_quantized(config, layer, instead)) return std::nullopt;
  const Weight first = weight_of(layer, 0);
  const Type type = type_of(config, layer, 0, first);
  for (uint64_t i = 1; i < layer.part_count(); ++i) {
    const Weight own = weight_of(layer, i);
    const Type other = type_of(config, layer, i, own);
    if (other == type && own.names == first.names) continue;
    instead.set(LS_VERDICT_SPLIT, other == type
                                      ? "parts are stored differently: with and without smoothing"
                                      : std::string("parts have different types: ") +
                                            name_of(type) + " and " + name_of(other));
    return std::nullopt;
  }
  if (is_mx(type)) return mx_config(type, layer, *first.names);
  return spec_of(type, layer, first);
}

}  // namespace loadstone::msmodelslim
