#include "fp8/device_session.hpp"

#include "common/cuda/weights.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::fp8 {

namespace cuda = common::cuda;

DeviceSession::DeviceSession(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(form_of(config, layer)),
      begin_(begin),
      device_(cuda::device_of(begin.stored().raw(0).at)) {}

void DeviceSession::feed(const sdk::Piece& piece) {
  const cuda::OnDevice guard(device_);
  const uint64_t index = piece.tag();  // a layer on a GPU has one group
  const PartForm& part = form_.parts[index];
  const cuda::WeightRows rows =
      cuda::rows_of(begin_, piece, part, form_.k, begin_.stored().raw(0).at, form_.k);
  auto* scales = static_cast<float*>(begin_.stored().raw(1).at);
  if (form_.granularity == Granularity::channel) {
    cuda::check(cuda::produce_fp8_rows(rows, scales + rows.row), "quantizing a weight");
  } else if (form_.granularity == Granularity::block) {
    const uint64_t in_part = piece.row_begin() - part.part.file_begin;
    float* const first = scales + part.block_row(in_part, form_.block_rows) * form_.scale_columns;
    cuda::check(cuda::produce_fp8_blocks(rows, form_.block_rows, form_.block_columns, first),
                "quantizing a weight");
  } else if (piece.pass() == 1) {
    cuda::check(cuda::produce_amax(rows, piece.stat<float>() + index),
                "finding a weight's largest value");
  } else {
    cuda::check(cuda::produce_fp8_tensor(rows, piece.stat<float>() + index, scales + index),
                "quantizing a weight");
  }
}

void DeviceSession::end(const void* stat, uint32_t trouble) {
  cuda::refuse_trouble(form_.parts, trouble);
  if (form_.granularity != Granularity::tensor) return;
  for (size_t i = 0; i < form_.parts.size(); ++i) {
    if (common::is_finite(static_cast<const float*>(stat)[i])) continue;
    const PartForm& part = form_.parts[i];
    sdk::fail(LS_INVALID_CHECKPOINT,
              "weight is not finite: " + common::full_name(part.part, part.weight));
  }
}

}  // namespace loadstone::fp8
