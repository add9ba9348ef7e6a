// Production of an MX layer's stored tensors from pieces, and their values.
#pragma once

#include <mutex>
#include <vector>

#include "common/layer/pieces.hpp"
#include "common/mx/form.hpp"

namespace loadstone::common::mx {

uint64_t scratch_nbytes(const Form& form);

/// Adds sources, stored tensors, identities, verdict and sizes of a layer that has a form.
void plan(const Config& config, const Form& form, const sdk::Layer& layer, sdk::Plan& out);

/// Errors (thrown): LS_INVALID_CHECKPOINT for weights that aren't finite, values that are no
/// element, codes or scale bytes that are NaN, outer scales that no format allows, and smoothing
/// scales that aren't finite and positive (in the load dtype too).
class Session {
 public:
  Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin);
  void feed(const sdk::Piece& piece);
  void end();

 private:
  void read_residents();
  void read_mul(const PartForm& part, const sdk::Tensor& tensor, const void* from);
  void quantize(const sdk::Piece& piece, const PartForm& part) const;
  void quantize_row(const PartForm& part, uint64_t row, float* values, uint8_t* codes) const;
  void encode_values(const sdk::Piece& piece, const PartForm& part) const;
  void encode_row(const sdk::Piece& piece, const PartForm& part, uint64_t r, float* room,
                  uint8_t* codes) const;
  void check_weights(const sdk::Piece& piece, const PartForm& part) const;
  void check_scales(const sdk::Piece& piece, const PartForm& part) const;
  void check_outer(const PartForm& part, uint64_t row, const uint8_t* codes) const;
  bool may_overflow(uint64_t row) const;
  void check_range() const;
  void decode(const sdk::Piece& piece, const PartForm& part) const;
  void store_row(uint64_t row, const uint8_t* codes) const;

  const Form form_;
  const MxRule rule_;
  const sdk::Layer& layer_;
  const sdk::Begin& begin_;
  std::once_flag residents_read_;
  std::vector<float> own_outer_, own_mul_;  // decode: nothing of them is stored
  std::vector<uint8_t> own_scales_;
  float* outer_ = nullptr;
  float* mul_ = nullptr;
  uint8_t* scales_ = nullptr;
};

/// Stored tensors of a layer, and float32 rows of them.
struct Stored {
  Stored() = default;
  Stored(const Form& form, const sdk::Buffers& buffers);

  const uint8_t* codes = nullptr;
  const uint8_t* scales = nullptr;
  const float* outer = nullptr;  // null: single scale
  const float* mul = nullptr;    // null: none
};

/// One row of k codes, one a byte, to k floats.
void dequantize_codes(const Form& form, const uint8_t* codes, const uint8_t* scales,
                      const float* outer, float* out);

/// One stored row, without mul_scale, to k floats.
void dequantize_row(const Form& form, const uint8_t* packed, const uint8_t* scales,
                    const float* outer, float* out);

/// ls_rows as the interface wants it: folded with mul_scale, or raw with it beside.
void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows);

}  // namespace loadstone::common::mx
