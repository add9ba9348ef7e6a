// What a session on a GPU makes of floats (common/cuda/device_session.hpp).
#pragma once

#include "common/cuda/weights.hpp"
#include "int8/form.hpp"

namespace loadstone::int8 {

struct DeviceQuantizer {
  DeviceQuantizer(const Config& config, const sdk::Layer& layer) : form(form_of(config, layer)) {}
  uint64_t row_nbytes() const { return form.k; }
  cudaError_t quantize(const common::cuda::WeightRows& rows, const sdk::Begin& begin,
                       const sdk::Piece&) const {
    return common::cuda::produce_int8_rows(rows, begin.stored().as<float>(1).data() + rows.row);
  }

  const Form form;
};

}  // namespace loadstone::int8
