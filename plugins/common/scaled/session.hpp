// Stored tensors of a scaled layer checked or decoded.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "common/scaled/views.hpp"

namespace loadstone::common::scaled {

uint64_t decode_scratch_nbytes(const Form& form);

/// Errors (thrown): LS_INVALID_CHECKPOINT for codes that are NaN or wider than their bits, scales
/// that are NaN, infinite or (unless Spec allows it) negative, scales of 0 over codes that aren't,
/// input and smoothing scales that aren't positive, groups of columns that don't exist, offsets out
/// of range, zero points that should vanish, constants beyond int32 sums, codes whose values leave
/// float32 under their scales. LS_UNSUPPORTED for
/// decoding a weight whose bias stands in its constant alone.
class Session {
 public:
  Session(Form form, const sdk::Layer& layer, const sdk::Begin& begin);
  void feed(const sdk::Piece& piece);
  void end();

 private:
  void read_residents();
  void check_resident(size_t part, Which which, const char* from, const Cut& cut);
  void check_codes(const PartForm& part, const uint8_t* codes, uint64_t row) const;
  void check_scales(const PartForm& part, Which which, const void* from, uint64_t count,
                    uint64_t first);
  void check_order(const PartForm& part, const void* from) const;
  void check_constants(const PartForm& part, const void* from, uint64_t count,
                       uint64_t first) const;
  void check_bits(const PartForm& part, const sdk::Tensor& tensor, const void* from, uint64_t count,
                  uint64_t first) const;
  void check_bias(size_t part, uint64_t row, const uint8_t* codes) const;
  void check_zeros(size_t part, const PartView& view, uint64_t row, const uint8_t* codes) const;
  void check_range(size_t part, const PartView& view, uint64_t row, const uint8_t* codes) const;
  void decode(const sdk::Piece& piece, size_t part) const;

  const Form form_;
  const sdk::Layer& layer_;
  const sdk::Begin& begin_;
  std::once_flag residents_read_;
  std::vector<PartView> views_;            // decode
  std::vector<const char*> residents_at_;  // decode: by Which and part, from the part's first row
  std::atomic<bool> any_zero_{false};
  std::atomic<bool> any_extreme_{false};  // a scale or zero point that may take a product too far
};

}  // namespace loadstone::common::scaled
