// What the MX methods have in common as classes for the plugin wrapper; each adds its name, fields,
// claims, configure, read_declaration and declaration.
#pragma once

#include "common/mx/bound.hpp"
#include "common/mx/saving.hpp"
#if defined(LOADSTONE_CUDA)
#include "common/cuda/device_session.hpp"
#include "common/cuda/either.hpp"
#include "common/mx/device.hpp"
#include "common/mx/device_quantizer.hpp"
#endif

namespace loadstone::common::mx {

/// False, with the verdict, where the layer doesn't fit.
inline bool plan_layer(const Config& config, const sdk::Layer& layer,
                       [[maybe_unused]] const sdk::Target& target, sdk::Plan& out,
                       NoForm& instead) {
  const auto form = find_form(config, layer, instead);
  if (!form || !agree_on_mul(*form, out, instead)) return false;
#if defined(LOADSTONE_CUDA)
  if (target.cuda() && !fit_device(config, target, *form, instead)) return false;
#endif
  plan(config, *form, layer, out);
#if defined(LOADSTONE_CUDA)
  if (target.cuda() && !form->decodes) {
    ls_work& work = out.quantize(device_kernel_name(config, *form, layer));
    if (DeviceQuantizer::takes(*form)) work.produce_on = LS_PLACE_ANY;
    out.reason("values are exact in bf16: decoded there, products in bf16");
  }
#endif
  return true;
}

struct Method {
  using Config = mx::Config;
#if defined(LOADSTONE_CUDA)
  using Session = cuda::EitherSession<mx::Session, cuda::DeviceSession<DeviceQuantizer>>;
  using Bound = cuda::EitherBound<mx::Bound, DeviceBound>;
  static constexpr bool kCuda = true;
#else
  using Session = mx::Session;
  using Bound = mx::Bound;
#endif

  static constexpr bool kDecodes = true;

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return sdk::ignored_by(config.ignored_layers, layer);
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target& target,
                   sdk::Plan& out) {
    NoForm instead;
    if (!plan_layer(config, layer, target, out, instead)) instead.answer(out);
  }

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    mx::dequantize(config, layer, rows);
  }

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    mx::save_layer(config, layer, sink);
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    mx::save_read(config, layer, stored, index, offset, nbytes, out);
  }
};

}  // namespace loadstone::common::mx
