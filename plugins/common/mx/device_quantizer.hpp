// What a session on a GPU makes of floats (common/cuda/device_session.hpp): one scale a group.
#pragma once

#include "common/cuda/weights.hpp"
#include "common/mx/form.hpp"

namespace loadstone::common::mx {

struct DeviceQuantizer {
  DeviceQuantizer(const Config& config, const sdk::Layer& layer)
      : form(form_of(config, layer)), rule(config.rule) {}
  /// Whether a kernel makes the layer.
  static bool takes(const Form& form) { return !form.serialized() && !form.dual; }
  uint64_t row_nbytes() const { return form.row_nbytes(); }
  cudaError_t quantize(const cuda::WeightRows& rows, const sdk::Begin& begin,
                       const sdk::Piece&) const {
    auto* scales = begin.stored().as<uint8_t>(1).data();
    return cuda::produce_mx(rows, rule, form.element, scales + rows.row * form.scale_columns());
  }

  const Form form;
  const MxRule rule;
};

}  // namespace loadstone::common::mx
