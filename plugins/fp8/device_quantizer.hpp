// What a session on a GPU makes of floats (common/cuda/device_session.hpp); serialized codes are
// the host's.
#pragma once

#include "common/cuda/weights.hpp"
#include "fp8/form.hpp"

namespace loadstone::fp8 {

class DeviceQuantizer {
 public:
  DeviceQuantizer(const Config& config, const sdk::Layer& layer) : form(form_of(config, layer)) {}
  uint64_t row_nbytes() const { return form.k; }
  cudaError_t quantize(const common::cuda::WeightRows& rows, const sdk::Begin& begin,
                       const sdk::Piece& piece) const;
  /// Errors (thrown): LS_INVALID_CHECKPOINT for a part whose largest value isn't finite.
  void check(const void* stat) const;

  const Form form;
};

}  // namespace loadstone::fp8
