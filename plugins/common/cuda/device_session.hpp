// Production of a layer's stored tensors on a GPU from pieces there: the bytes that the host's
// session makes. What one method quantizes to is its Quantizer's business:
//   Quantizer(config, layer); const form (parts, k); row_nbytes() of the stored codes
//   cudaError_t quantize(rows, begin, piece) const: queues kernels for the piece's rows
//   void check(stat) const, where a statistic has to be looked at when all is done
#pragma once

#include "common/cuda/launch.hpp"
#include "common/cuda/weights.hpp"

namespace loadstone::common::cuda {

/// Errors (thrown, at the end): as the host's session for weights that aren't finite, naming the
/// row.
template <typename Quantizer>
class DeviceSession {
 public:
  template <typename Config>
  DeviceSession(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
      : quantizer_(config, layer), begin_(begin), device_(device_of(begin.stored().raw(0).at)) {}

  void feed(const sdk::Piece& piece) {
    const OnDevice guard(device_);
    const auto& form = quantizer_.form;
    const WeightRows rows = rows_of(begin_, piece, form.parts[piece.tag()], form.k,
                                    begin_.stored().raw(0).at, quantizer_.row_nbytes());
    cuda::check(quantizer_.quantize(rows, begin_, piece), "quantizing a weight");
  }

  void end(const void* stat, uint32_t trouble) {
    refuse_trouble(quantizer_.form.parts, trouble);
    if constexpr (requires { quantizer_.check(stat); }) quantizer_.check(stat);
  }

 private:
  const Quantizer quantizer_;
  const sdk::Begin& begin_;
  const int device_;
};

}  // namespace loadstone::common::cuda
