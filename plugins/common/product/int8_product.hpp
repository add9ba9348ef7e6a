// y = s_x·(s_w·float(Σ q_x q_w)) + bias of two int8 matrices, the sum exact in int32 on every path:
// AMX, AVX-512 VNNI, or the host's float32 product over stretches of K short enough to be exact
// (no saturating instruction anywhere). A row may bring an integer of its own, added to the sum
// before it becomes a float: y = s_x·(s_w·float(Σ q_x q_w + c)) + bias. K is at most 2^16 (2^31 /
// 128² = 131072, with room). Source: numeric-definitions, sections 3 and 9.
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>
#include <functional>

#include "common/product/packed.hpp"

namespace loadstone::common {

struct Int8Shape {
  uint64_t n = 0, k = 0;
};

/// One row of the activation, widened: k values in, k codes out; returns their scale.
using QuantizeRowInt8 = std::function<float(const float* x, int8_t* codes)>;

/// Codes [begin, begin+count) of row `row`, as values in [-128, 127].
using DecodeInt8 = std::function<void(uint64_t row, uint64_t begin, uint64_t count, int8_t* out)>;

/// Rows of k codes, and a scale each.
struct Int8Weight {
  const int8_t* codes = nullptr;
  const float* scales = nullptr;
  const int32_t* constants = nullptr;  // of each row, or null; |c| + k·128² stays under 2^31
  DecodeInt8 decode = nullptr;         // instead of `codes`: rows stored otherwise
};

/// The tables of one bound layer. Thread-safe: all state is in the caller's buffers.
class Int8Product {
 public:
  static constexpr uint64_t kMaxColumns = 65536;

  explicit Int8Product(Int8Shape shape);
  /// The same on a unit chosen by hand, null for the host's product: tests, and measurements.
  Int8Product(Int8Shape shape, const packed::Unit* unit);

  /// "amx_int8", "host_f32": part of the key of a quantized activation.
  const char* path() const;

  uint64_t activation_nbytes(uint64_t m) const;
  uint64_t workspace_nbytes(uint64_t m) const;
  void prepare(const ls_apply& call, const QuantizeRowInt8& quantize, void* activation) const;
  void apply(const ls_apply& call, const Int8Weight& weight, const void* activation) const;

 private:
  packed::Shape packed_shape() const { return {shape_.n, shape_.k, 0}; }
  void apply_few(const ls_apply& call, const Int8Weight& weight) const;
  void apply_floats(const ls_apply& call, const Int8Weight& weight, const float* scales) const;
  void add_stretch(const ls_apply& call, const Int8Weight& weight, uint64_t first, uint64_t rows,
                   uint64_t begin, uint64_t depth) const;

  Int8Shape shape_;
  const packed::Unit* unit_;
};

}  // namespace loadstone::common
