#include "common/mx/device_session.hpp"

#include "common/cuda/weights.hpp"

namespace loadstone::common::mx {

bool device_makes(const Form& form) { return !form.serialized() && !form.dual; }

DeviceSession::DeviceSession(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
    : form_(form_of(config, layer)),
      rule_(config.rule),
      begin_(begin),
      device_(cuda::device_of(begin.stored().raw(0).at)) {}

void DeviceSession::feed(const sdk::Piece& piece) {
  const cuda::OnDevice guard(device_);
  const cuda::WeightRows rows = cuda::rows_of(begin_, piece, form_.parts[piece.tag()], form_.k,
                                              begin_.stored().raw(0).at, form_.row_nbytes());
  auto* scales = static_cast<uint8_t*>(begin_.stored().raw(1).at);
  cuda::check(
      cuda::produce_mx(rows, rule_, form_.element, scales + rows.row * form_.scale_columns()),
      "quantizing a weight");
}

void DeviceSession::end(const void*, uint32_t trouble) {
  cuda::refuse_trouble(form_.parts, trouble);
}

}  // namespace loadstone::common::mx
