// y = x̂·Ŵᵀ (+ bias) of two matrices that are small-float values times scales: W8A8, W4A8 and W4A4
// of every format whose unscaled values fit bf16 (e4m3, e5m2, e2m1 and their power-of-two groups).
//
//   one scale a row:  y[i][j] = sx[i]·(sw[j]·Σ_k qx[i][k]·qw[j][k]) + bias[j]
//   groups along K:   y[i][j] = Σ_g (Σ_{k∈g} qx·qw)·(sx[i][g]·sw[j][g]) + bias[j], groups in order
//
// The sums are float32 in an unspecified order: error at most (K+8)·2^-24·Σ|x̂ŵ| a value. Products
// of two values are exact. A few rows of x are multiplied as W is decoded; more run on AMX tiles
// where the processor has them (values as bf16), else on the host's float32 product. A value of x
// or W that isn't finite makes its outputs not finite. Source of the formulas: numeric-definitions,
// sections 2 to 4.
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>
#include <functional>

#include "common/product/packed.hpp"

namespace loadstone::common {

/// Shape of W; the activation has any number of rows.
struct CodedShape {
  uint64_t n = 0, k = 0;
  uint64_t group = 0;  // 0: one scale a row; else a multiple of 32 (the last group may be shorter)
  uint64_t groups() const { return group == 0 ? 1 : (k + group - 1) / group; }
};

/// One row of the activation, widened: k values in; k unscaled values and groups() scales out.
/// `room` holds k floats to work in.
using QuantizeRow =
    std::function<void(uint64_t row, const float* x, float* room, float* values, float* scales)>;

/// What the product reads of W.
struct CodedWeight {
  /// Row `row`: k unscaled values as bf16 bits.
  std::function<void(uint64_t row, uint16_t* values)> decode;
  /// groups() scales of row `row`.
  std::function<const float*(uint64_t row)> scales;
  /// Where it is faster than by decode, or null: Σ of the unscaled values of columns [begin,
  /// begin+count), a group or a whole row, times the `count` floats at x.
  std::function<float(uint64_t row, uint64_t begin, uint64_t count, const float* x)> dot = nullptr;
};

/// The tables of one bound layer. Thread-safe: all state is in the caller's buffers.
class CodedProduct {
 public:
  explicit CodedProduct(CodedShape shape);
  /// The same on a unit chosen by hand, null for the host's product: tests, and measurements.
  CodedProduct(CodedShape shape, const packed::Unit* unit);

  /// "amx_bf16", "host_f32": part of the key of a quantized activation.
  const char* path() const;

  /// Bytes of the quantized activation of m rows, and of the workspace of either call.
  uint64_t activation_nbytes(uint64_t m) const;
  uint64_t workspace_nbytes(uint64_t m) const;

  /// Quantizes call.x (rows of k) into `activation`.
  void prepare(const ls_apply& call, const QuantizeRow& quantize, void* activation) const;
  /// Rows [begin, begin+count) of W into the columns of call.y that they are; call.bias, when not
  /// null, counts from column 0.
  void apply(const ls_apply& call, const CodedWeight& weight, uint64_t begin, uint64_t count,
             const void* activation) const;

 private:
  void prepare_floats(const ls_apply& call, const QuantizeRow& quantize, float* values) const;
  void apply_few(const ls_apply& call, const CodedWeight& weight, uint64_t begin, uint64_t count,
                 const float* values) const;
  void apply_floats(const ls_apply& call, const CodedWeight& weight, uint64_t begin, uint64_t count,
                    const float* values) const;

  packed::Shape packed_shape() const { return {shape_.n, shape_.k, shape_.group}; }

  CodedShape shape_;
  const packed::Unit* unit_;
};

}  // namespace loadstone::common
