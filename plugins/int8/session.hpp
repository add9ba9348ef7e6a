// Production of a layer's stored tensors from pieces.
#pragma once

#include <mutex>
#include <vector>

#include "int8/form.hpp"

namespace loadstone::int8 {

/// One of: quantize floats row by row; place serialized codes and widen their scales; decode.
/// Errors (thrown): LS_INVALID_CHECKPOINT for weights that aren't finite (code times scale beyond
/// float32 is one) and for scales that are NaN, infinite, negative, or zero over codes that aren't.
class Session {
 public:
  Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin);
  void feed(const sdk::Piece& piece);
  void end();

 private:
  void quantize(const sdk::Piece& piece, const PartForm& part) const;
  void read_scales();
  void check_scaled(const int8_t* codes, const PartForm& part, uint64_t row) const;
  void decode(const sdk::Piece& piece, const PartForm& part) const;

  const Form form_;
  const sdk::Layer& layer_;
  const sdk::Begin& begin_;
  std::once_flag scales_read_;
  std::vector<float> own_scales_;  // decode: nothing of them is stored
  float* scales_ = nullptr;
};

}  // namespace loadstone::int8
