#include "fp8/device_quantizer.hpp"

#include "common/numerics/floats.hpp"

namespace loadstone::fp8 {

namespace cuda = common::cuda;

cudaError_t DeviceQuantizer::quantize(const cuda::WeightRows& rows, const sdk::Begin& begin,
                                      const sdk::Piece& piece) const {
  const uint64_t index = piece.tag();  // a layer on a GPU has one group
  auto* scales = static_cast<float*>(begin.stored().raw(1).at);
  if (form.granularity == Granularity::channel) {
    return cuda::produce_fp8_rows(rows, scales + rows.row);
  }
  if (form.granularity == Granularity::block) {
    const PartForm& part = form.parts[index];
    const uint64_t in_part = piece.row_begin() - part.part.file_begin;
    float* const first = scales + part.block_row(in_part, form.block_rows) * form.scale_columns;
    return cuda::produce_fp8_blocks(rows, form.block_rows, form.block_columns, first);
  }
  float* const amax = piece.stat<float>() + index;
  if (piece.pass() == 1) return cuda::produce_amax(rows, amax);
  return cuda::produce_fp8_tensor(rows, amax, scales + index);
}

void DeviceQuantizer::check(const void* stat) const {
  if (form.granularity != Granularity::tensor) return;
  for (size_t i = 0; i < form.parts.size(); ++i) {
    if (common::is_finite(static_cast<const float*>(stat)[i])) continue;
    const PartForm& part = form.parts[i];
    sdk::fail(LS_INVALID_CHECKPOINT,
              "weight is not finite: " + common::full_name(part.part, part.weight));
  }
}

}  // namespace loadstone::fp8
