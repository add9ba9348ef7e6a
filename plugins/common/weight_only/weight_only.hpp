// y = x·Wᵀ (+ bias) of a weight that is decoded on the fly and an activation that isn't quantized:
// a few rows of x through the format's own product, more through blocks of decoded rows and the
// host's product, an embedding's rows by decoding them.
#pragma once

#include <functional>
#include <loadstone/plugin.hpp>

#include "common/product/rows.hpp"

namespace loadstone::common {

/// y[i·out + n] = Σ_k x[i·in + k]·W[n][k] for rows [begin, begin+count) of W and m rows of x.
using MultiplyRows =
    std::function<void(uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y)>;

/// What apply needs of one bound layer. Thread-safe: all state is in the caller's workspace.
class WeightOnlyProduct {
 public:
  /// `few`: the most rows of x that `multiply` takes. Layers of several groups never use it.
  WeightOnlyProduct(const sdk::Layer& layer, uint64_t in, uint64_t few,
                    sdk::DequantizeRows dequantize, MultiplyRows multiply)
      : out_(layer.out()),
        in_(in),
        few_(layer.kind() == LS_KIND_LINEAR ? few : 0),
        blockwise_(layer.kind(), layer.groups(), layer.out(), in),
        dequantize_(std::move(dequantize)),
        multiply_(std::move(multiply)) {}

  uint64_t workspace_nbytes(uint64_t m) const {
    return m <= few_ ? m * (in_ + out_) * sizeof(float) : blockwise_.workspace_nbytes(m);
  }

  void apply(const ls_apply& call) const {
    if (call.m <= few_) return apply_few(call);
    blockwise_.run(call, dequantize_);
  }

 private:
  static constexpr uint64_t kTaskRows = 128;  // of W; a multiple of what every product takes

  void apply_few(const ls_apply& call) const {
    float* x = static_cast<float*>(call.workspace);
    float* y = x + call.m * in_;
    for (uint64_t i = 0; i < call.m; ++i) {
      const float* row = x_row(call, i, in_, x + i * in_);
      if (row != x + i * in_) std::copy(row, row + in_, x + i * in_);
    }
    sdk::parallel_for(ceil_div(out_, kTaskRows), [&](uint64_t task) {
      const uint64_t begin = task * kTaskRows, count = std::min(kTaskRows, out_ - begin);
      multiply_(begin, count, x, call.m, y);
      for (uint64_t i = 0; i < call.m; ++i) {
        float* line = y + i * out_ + begin;
        float bias[kTaskRows];
        bias_row(call, begin, count, bias);
        for (uint64_t n = 0; call.bias != nullptr && n < count; ++n) line[n] += bias[n];
        narrow(call.y_dtype, line, y_at(call, i, begin), count);
      }
    });
  }

  uint64_t out_, in_, few_;
  sdk::BlockwiseApply blockwise_;
  sdk::DequantizeRows dequantize_;
  MultiplyRows multiply_;
};

}  // namespace loadstone::common
