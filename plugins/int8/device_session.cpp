#include "int8/device_session.hpp"

#include "common/cuda/weights.hpp"

namespace loadstone::int8 {

namespace cuda = common::cuda;

DeviceSession::DeviceSession(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(form_of(config, layer)),
      begin_(begin),
      device_(cuda::device_of(begin.stored().raw(0).at)) {}

void DeviceSession::feed(const sdk::Piece& piece) {
  const cuda::OnDevice guard(device_);
  const cuda::WeightRows rows = cuda::rows_of(begin_, piece, form_.parts[piece.tag()], form_.k,
                                              begin_.stored().raw(0).at, form_.k);
  auto* scales = static_cast<float*>(begin_.stored().raw(1).at);
  cuda::check(cuda::produce_int8_rows(rows, scales + rows.row), "quantizing a weight");
}

void DeviceSession::end(const void*, uint32_t trouble) {
  cuda::refuse_trouble(form_.parts, trouble);
}

}  // namespace loadstone::int8
