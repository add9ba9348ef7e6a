// fp8: weights and activations as e4m3fn (W8A8), quantized while loading or read as serialized.
// README.md has the layouts, form.hpp what a layer may hold, numeric-definitions section 2 the
// numbers.
#include <limits>
#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "common/numerics/floats.hpp"
#include "fp8/bound.hpp"
#include "fp8/declared.hpp"
#include "fp8/saving.hpp"
#include "fp8/session.hpp"
#if defined(LOADSTONE_CUDA)
#include "common/cuda/device_session.hpp"
#include "common/cuda/either.hpp"
#include "fp8/device.hpp"
#include "fp8/device_quantizer.hpp"
#endif

namespace loadstone::fp8 {
namespace {

constexpr const char* kSchemes[] = {"dynamic", "static"};
constexpr const char* kWeights[] = {"channel", "tensor", "block"};
constexpr const char* kActivations[] = {"token", "tensor"};
constexpr const char* kFormats[] = {"e4m3"};

constexpr ls_field declared(ls_field field) {
  field.declared_only = 1;
  return field;
}

constexpr ls_field kAllFields[] = {
    sdk::choice_field("activation_scheme", "scales of activations: as they come, or stored",
                      "\"dynamic\"", kSchemes),
    sdk::choice_field("activation_granularity", "what one dynamic activation scale covers",
                      "\"token\"", kActivations),
    sdk::choice_field("weight_granularity", "what one scale covers of a weight quantized here",
                      "\"channel\"", kWeights),
    sdk::field(LS_FIELD_INTEGERS, "weight_block_size",
               "rows and columns of a block, [128, 128]; sets weight_granularity to block"),
    sdk::ignored_layers_field(),
    sdk::field(LS_FIELD_BOOL, "is_checkpoint_fp8_serialized",
               "the checkpoint holds fp8 weights; layers it holds otherwise are kept", "false"),
    sdk::field(LS_FIELD_TEXT, "store_dtype", "accepted for the reference's sake; no effect"),
    declared(sdk::choice_field("fmt", "format of the stored codes", "\"e4m3\"", kFormats)),
    declared(sdk::field(LS_FIELD_TEXTS, "modules_to_not_convert",
                        "ignored_layers by its other name, read when that is empty", "[]")),
    declared(sdk::field(LS_FIELD_BOOL, "static_where_stored",
                        "layers with a stored input scale use it (ComfyUI)", "false")),
    declared(sdk::field(LS_FIELD_BOOL, "full_precision_matmul",
                        "weights only: activations stay as they are (ComfyUI)", "false")),
};

// Half a step of the largest binade over the largest value: 16/448, and a little for the floors.
constexpr double kRoundingError = 0.036;

struct Fp8 {
  using Config = fp8::Config;
#if defined(LOADSTONE_CUDA)
  using Session =
      common::cuda::EitherSession<fp8::Session, common::cuda::DeviceSession<DeviceQuantizer>>;
  using Bound = common::cuda::EitherBound<fp8::Bound, DeviceBound>;
  static constexpr bool kCuda = true;
#else
  using Session = fp8::Session;
  using Bound = fp8::Bound;
#endif

  static constexpr const char* kName = "fp8";
  static constexpr const char* kSummary = "weights and activations in 8-bit floats (e4m3), W8A8";
  static constexpr bool kDecodes = true;  // piece by piece, where the wrapper holds a layer whole
  static constexpr auto& kFields = kAllFields;
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", "fp8"),
      sdk::claim("marker:scaled_fp8"),
      sdk::claim("marker:comfy_quant"),
      sdk::claim("metadata:_quantization_metadata"),
      sdk::claim("quantization_config", "auto-round", nullptr, "fp8"),
  };

  static Config configure(const sdk::Values& values) { return fp8::configure(values); }

  static void read_declaration(const sdk::Node& node, uint64_t claim, sdk::Declaration& out) {
    fp8::read_declaration(node, claim, kAllFields, out);
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return sdk::ignored_by(config.ignored_layers, layer);
  }

  static void plan(const Config& config, const sdk::Layer& layer,
                   [[maybe_unused]] const sdk::Target& target, sdk::Plan& out) {
    common::NoForm instead;
    auto form = find_form(config, layer, instead);
    if (!form) return instead.answer(out);
#if defined(LOADSTONE_CUDA)
    if (target.cuda() && !fit_device(target, *form, instead)) return instead.answer(out);
#endif
    if (form->decodes) {
      plan_decode(*form, layer, out);
    } else if (form->serialized()) {
      plan_serialized(*form, out);
    } else {
      plan_online(*form, layer, out);
    }
#if defined(LOADSTONE_CUDA)
    if (target.cuda() && !form->decodes) {
      ls_work& work = out.quantize(device_kernel_name(*form, target.sm));
      if (!form->serialized()) work.produce_on = LS_PLACE_ANY;
      out.reason(device_reason(*form));
    }
#endif
    name_unused(*form, layer, out);
  }

  static void merge(const Config& config, const sdk::Layer& layer, uint32_t groups, void* into,
                    const void* from) {
    const uint64_t count = groups * stat_nbytes(form_of(config, layer)) / sizeof(float);
    auto* a = static_cast<float*>(into);
    const auto* b = static_cast<const float*>(from);
    for (uint64_t i = 0; i < count; ++i) a[i] = std::max(a[i], b[i]);
  }

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const Form form = form_of(config, layer);
    const uint64_t first = rows.group() * form.n + rows.begin();
    if (form.decodes) {
      const uint64_t item = common::float_nbytes(layer.load_dtype());
      const auto* at = static_cast<const char*>(rows.stored().raw(0).at) + first * form.k * item;
      return common::widen(layer.load_dtype(), at, rows.raw().out, rows.count() * form.k);
    }
    dequantize_rows(form, rows.stored().as<const uint8_t>(0).data(),
                    rows.stored().as<const float>(1).data(), first, rows.count(), rows.raw().out);
  }

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    for (const SavedPart& saved : saved_parts(form_of(config, layer))) {
      sdk::check_host(sdk::host().save_tensor(sink, &saved.shape, saved.part), "save_tensor");
    }
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    const auto all = saved_parts(form_of(config, layer));
    if (index >= all.size() || offset > all[index].nbytes || nbytes > all[index].nbytes - offset) {
      sdk::fail(LS_INVALID_ARGUMENT, "saved tensor read out of range");
    }
    const auto* from = static_cast<const char*>(stored.raw(all[index].stored).at);
    std::memcpy(out, from + all[index].offset + offset, nbytes);
  }

  static std::string declaration(const Config& config) { return fp8::declaration(config); }

 private:
  /// Stored 0, 1 and 2: the codes, their scales, the activations' scales.
  static void plan_stored(const Form& form, sdk::Plan& out) {
    if (form.groups > 1) {
      out.stored("weight", form.code_dtype, {form.groups, form.n, form.k});
    } else {
      out.stored("weight", form.code_dtype, {form.n, form.k});
    }
    if (form.granularity == Granularity::block) {
      out.stored("weight_scale_inv", LS_DTYPE_F32, {form.scale_rows, form.scale_columns});
    } else if (form.granularity == Granularity::channel && form.groups > 1) {
      out.stored("weight_scale", LS_DTYPE_F32, {form.groups, form.n, 1});
    } else if (form.granularity == Granularity::channel) {
      out.stored("weight_scale", LS_DTYPE_F32, {form.n, 1});
    } else {
      out.stored("weight_scale", LS_DTYPE_F32, {form.parts.size()});
    }
    if (form.activation == Activation::fixed) {
      out.stored("input_scale", LS_DTYPE_F32, {form.parts.size()});
    }
  }

  static void plan_online(const Form& form, const sdk::Layer& layer, sdk::Plan& out) {
    plan_stored(form, out);
    const bool blocks = form.granularity == Granularity::block;
    for (size_t i = 0; i < form.parts.size(); ++i) {
      const PartForm& part = form.parts[i];
      if (part.input_scale) out.resident(*part.input_scale, i);
      out.streamed_part(layer, part.weight, blocks ? form.block_rows : 1, i);
    }
    ls_work& work = out.quantize(kernel_name(form));
    work.feed_scratch = feed_scratch_nbytes(form);
    work.weight_error = kRoundingError;
    set_activation_error(form, work);
    if (form.granularity == Granularity::tensor) {
      work.passes = 2;
      work.stat_nbytes = stat_nbytes(form);
    }
  }

  static void plan_serialized(const Form& form, sdk::Plan& out) {
    plan_stored(form, out);
    for (size_t i = 0; i < form.parts.size(); ++i) {
      const PartForm& part = form.parts[i];
      out.resident(*part.scale, i);
      if (part.input_scale) out.resident(*part.input_scale, i);
      out.identity(common::identity_of(part, part.weight, form.k, 0, i));
    }
    out.reason(form.weight_only);
    set_activation_error(form, out.quantize(kernel_name(form)));
  }

  static void plan_decode(const Form& form, const sdk::Layer& layer, sdk::Plan& out) {
    if (form.groups > 1) {
      out.stored("weight", layer.load_dtype(), {form.groups, form.n, form.k});
    } else {
      out.stored("weight", layer.load_dtype(), {form.n, form.k});
    }
    for (size_t i = 0; i < form.parts.size(); ++i) {
      out.resident(*form.parts[i].scale, i);
      out.streamed_part(layer, form.parts[i].weight, 1, i);
    }
    out.decode("fp8 weights as plain floats").feed_scratch = feed_scratch_nbytes(form);
  }

  static void set_activation_error(const Form& form, ls_work& work) {
    if (!form.weight_only.empty()) return;
    const bool fixed = form.activation == Activation::fixed;
    work.activation_error = fixed ? std::numeric_limits<double>::infinity() : kRoundingError;
  }

  static void name_unused(const Form& form, const sdk::Layer& layer, sdk::Plan& out) {
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      if (tensor.suffix() == "comfy_quant") {
        out.unused(tensor, "a marker: read with the declarations");
      } else if (tensor.suffix() == "input_scale" || tensor.suffix() == "scale_input") {
        if (form.parts[tensor.part].input_scale) continue;
        out.unused(tensor, form.decodes || !form.weight_only.empty()
                               ? "activations are not quantized"
                               : "activations are scaled as they come");
      }
    }
  }
};

}  // namespace
}  // namespace loadstone::fp8

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::fp8::Fp8>(host, "fp8", "1.0.0", "MIT");
}
