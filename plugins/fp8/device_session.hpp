// Production of a layer's stored tensors on a GPU, from pieces there: the bytes that Session makes.
#pragma once

#include "common/cuda/launch.hpp"
#include "fp8/form.hpp"

namespace loadstone::fp8 {

/// Quantizes floats; serialized codes are the host's. Errors (thrown, at the end): as Session for
/// weights that aren't finite, naming the row.
class DeviceSession {
 public:
  DeviceSession(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin);
  void feed(const sdk::Piece& piece);
  void end(const void* stat, uint32_t trouble);

 private:
  const Form form_;
  const sdk::Begin& begin_;
  const int device_;
};

}  // namespace loadstone::fp8
