// Production of a layer's stored tensors from pieces.
#pragma once

#include <mutex>
#include <vector>

#include "fp8/form.hpp"

namespace loadstone::fp8 {

/// Bytes that a running feed needs, and that pass 1 gathers per group (per-tensor scales).
uint64_t feed_scratch_nbytes(const Form& form);
uint64_t stat_nbytes(const Form& form);

/// One of: quantize floats; place serialized codes and widen their scales; decode to plain floats.
/// Errors (thrown): LS_INVALID_CHECKPOINT for weights that aren't finite (code times scale beyond
/// float32 is one), codes that are NaN, and scales that are NaN, infinite, negative, or zero over
/// codes that aren't.
class Session {
 public:
  Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin);
  void feed(const sdk::Piece& piece);
  void end(const void* stat, uint32_t trouble);

 private:
  // quantize
  void gather(const sdk::Piece& piece, const PartForm& part);
  void quantize(const sdk::Piece& piece, const PartForm& part);
  void quantize_rows(const sdk::Piece& piece, const PartForm& part, float* room, uint64_t begin,
                     uint64_t end);
  void quantize_bands(const sdk::Piece& piece, const PartForm& part, float* room, uint64_t begin,
                      uint64_t end);
  // serialized
  void read_scales();
  void read_weight_scales(const PartForm& part, const void* from, uint64_t index);
  void read_input_scale(const PartForm& part, const void* from, uint64_t index);
  void check_scaled(const uint8_t* codes, const PartForm& part, uint64_t row) const;
  void check_codes(const sdk::Piece& piece, const PartForm& part) const;
  void decode(const sdk::Piece& piece, const PartForm& part) const;

  uint64_t stat_index(const PartForm& part) const;

  const Form form_;
  const sdk::Layer& layer_;
  const sdk::Begin& begin_;
  std::once_flag scales_read_;
  std::vector<float> own_scales_;  // decode: nothing of them is stored
  float* stored_scales_ = nullptr;
  bool looks_at_scales_ = false;  // some are 0, or so large that a product may leave float32
};

/// float32 of one row from its codes and its scales.
void dequantize_row(const Form& form, const uint8_t* codes, const float* scales, float* out);

/// float32 of rows [begin, begin+count) (over all groups) from the stored tensors.
void dequantize_rows(const Form& form, const uint8_t* codes, const float* scales, uint64_t begin,
                     uint64_t count, float* out);

}  // namespace loadstone::fp8
