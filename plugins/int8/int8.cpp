// int8: weights per output row and activations per token as int8 (W8A8), symmetric, quantized while
// loading or read as serialized. README.md has the layout, numeric-definitions section 3 the
// numbers.
#include "common/numerics/int8.hpp"

#include <loadstone/plugin.hpp>

#include "common/cpu.hpp"
#include "common/layer/declared.hpp"
#include "common/layer/pieces.hpp"
#include "common/numerics/floats.hpp"
#include "int8/bound.hpp"
#include "int8/session.hpp"
#if defined(LOADSTONE_CUDA)
#include "common/cuda/device_session.hpp"
#include "common/cuda/either.hpp"
#include "common/cuda/target.hpp"
#include "int8/device.hpp"
#include "int8/device_quantizer.hpp"
#endif

namespace loadstone::int8 {
namespace {

constexpr const char* kSchemes[] = {"dynamic"};

constexpr ls_field kAllFields[] = {
    sdk::choice_field("activation_scheme", "scales of activations: as they come", "\"dynamic\"",
                      kSchemes),
    sdk::ignored_layers_field(),
    sdk::field(LS_FIELD_BOOL, "is_checkpoint_int8_serialized",
               "the checkpoint holds int8 weights; layers it holds otherwise are kept", "false"),
};

constexpr double kRoundingError = 0.51 / 127.0;  // half a step of the largest value's row, and ulps

struct Int8 {
  using Config = int8::Config;
#if defined(LOADSTONE_CUDA)
  using Session =
      common::cuda::EitherSession<int8::Session, common::cuda::DeviceSession<DeviceQuantizer>>;
  using Bound = common::cuda::EitherBound<int8::Bound, DeviceBound>;
  static constexpr bool kCuda = true;
#else
  using Session = int8::Session;
  using Bound = int8::Bound;
#endif

  static constexpr const char* kName = "int8";
  static constexpr const char* kSummary = "weights and activations as 8-bit integers, W8A8";
  static constexpr bool kDecodes = true;
  static constexpr auto& kFields = kAllFields;
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "int8")};

  static Config configure(const sdk::Values& values) {
    return {values.boolean("is_checkpoint_int8_serialized"), values.texts("ignored_layers")};
  }

  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    common::read_declared(node, kAllFields, "is_checkpoint_int8_serialized", out);
  }

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return sdk::ignored_by(config.ignored_layers, layer);
  }

  static void plan(const Config& config, const sdk::Layer& layer,
                   [[maybe_unused]] const sdk::Target& target, sdk::Plan& out) {
    common::NoForm instead;
    const auto form = find_form(config, layer, instead);
    if (!form) return instead.answer(out);
    const std::vector<uint64_t> shape = matrix_shape(*form, form->k);
    if (form->decodes) {
      out.stored("weight", layer.load_dtype(), shape);
    } else {
      out.stored("weight", LS_DTYPE_I8, shape);
      out.stored("weight_scale", LS_DTYPE_F32, matrix_shape(*form, 1));
    }
    for (size_t i = 0; i < form->parts.size(); ++i) {
      const PartForm& part = form->parts[i];
      if (part.scale) out.resident(*part.scale, i);
      if (form->serialized && !form->decodes) {
        out.identity(common::identity_of(part, part.weight, form->k, 0, i));
      } else {
        out.streamed_part(layer, part.weight, 1, i);
      }
    }
    set_work(*form, out);
#if defined(LOADSTONE_CUDA)
    if (target.cuda() && !form->decodes) {
      if (!common::cuda::takes(kName, target, form->groups, instead)) return instead.answer(out);
      ls_work& work = out.quantize(device_kernel_name(*form, target.sm));
      if (!form->serialized) work.produce_on = LS_PLACE_ANY;
      out.reason(device_reason(*form));
    }
#endif
  }

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const Form form = form_of(config, layer);
    const uint64_t first = rows.group() * form.n + rows.begin();
    if (form.decodes) {
      const uint64_t item = common::float_nbytes(layer.load_dtype());
      const auto* at = static_cast<const char*>(rows.stored().raw(0).at) + first * form.k * item;
      return common::widen(layer.load_dtype(), at, rows.raw().out, rows.count() * form.k);
    }
    const auto codes = rows.stored().as<const int8_t>(0);
    const auto scales = rows.stored().as<const float>(1);
    for (uint64_t r = 0; r < rows.count(); ++r) {
      common::int8_dequantize(codes.data() + (first + r) * form.k, scales[first + r],
                              rows.out(r).data(), form.k);
    }
  }

  static std::string declaration(const Config& config) {
    return R"({"quant_method":"int8","activation_scheme":"dynamic",)"
           R"("is_checkpoint_int8_serialized":true,"ignored_layers":)" +
           common::json_list(config.ignored_layers) + "}";
  }

 private:
  static std::vector<uint64_t> matrix_shape(const Form& form, uint64_t columns) {
    if (form.groups > 1) return {form.groups, form.n, columns};
    return {form.n, columns};
  }

  static void set_work(const Form& form, sdk::Plan& out) {
    if (form.decodes) {
      out.decode("int8 weights as plain floats").feed_scratch = common::feed_scratch_nbytes(form.k);
      return;
    }
    ls_work& work =
        out.quantize(form.weight_only ? "int8_channel_weight_only" : "int8_channel_token");
    if (!form.serialized) {
      work.feed_scratch = common::feed_scratch_nbytes(form.k);
      work.weight_error = kRoundingError;
    }
    if (!form.weight_only) work.activation_error = kRoundingError;
  }
};

}  // namespace
}  // namespace loadstone::int8

extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {
  if (!loadstone::common::cpu_accepted(host)) return nullptr;
  return loadstone::sdk::detail::describe<loadstone::int8::Int8>(host, "int8", "1.0.0", "MIT");
}
