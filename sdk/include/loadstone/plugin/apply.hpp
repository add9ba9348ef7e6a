// The default bind and apply: y = x·Wᵀ (+ b) through the method's dequantize and the host's
// product, a block of rows at a time, so that the workspace doesn't grow with the layer.
#pragma once

#include <functional>
#include <vector>

#include "produce.hpp"

namespace loadstone::sdk {

/// What a method's own Bound is made from. `config`, `layer` and the stored tensors live until
/// unbind.
struct Binding {
  const Layer& layer;
  Target target;
  uint64_t note = 0;
  Buffers stored;
};

/// Dequantizes rows [begin, begin+count) of a group into `out`, row-major, `in` floats a row.
using DequantizeRows =
    std::function<void(uint32_t group, uint64_t begin, uint64_t count, float* out)>;

/// The default apply of one layer. Thread-safe: all state is in the caller's workspace.
class BlockwiseApply {
 public:
  BlockwiseApply(uint32_t kind, uint32_t groups, uint64_t out, uint64_t in)
      : kind_(kind), groups_(groups), out_(out), in_(in) {}

  uint64_t workspace_nbytes(uint64_t m) const {
    if (kind_ == LS_KIND_GATHER) return gather_rows(m) * in_ * sizeof(float);
    const uint64_t panel = std::min(m, kPanelRows);
    return (block_rows() * in_ + panel * in_ + panel * block_rows()) * sizeof(float);
  }

  void run(const ls_apply& call, const DequantizeRows& dequantize) const {
    if (kind_ == LS_KIND_GATHER) return gather(call, dequantize);
    if (kind_ != LS_KIND_GROUPED) return group(call, 0, 0, call.m, dequantize);
    if (call.group_end == nullptr) fail(LS_INVALID_ARGUMENT, "grouped apply without group_end");
    uint64_t begin = 0;
    for (uint32_t g = 0; g < groups_; ++g) {
      const uint64_t end = call.group_end[g];
      if (end < begin || end > call.m) fail(LS_INVALID_ARGUMENT, "group_end is not ascending");
      if (end > begin) group(call, g, begin, end, dequantize);
      begin = end;
    }
  }

 private:
  static constexpr uint64_t kBlockNbytes = 8u << 20;  // of dequantized rows: about a cache's worth
  static constexpr uint64_t kPanelRows = 256;         // of x at a time
  static constexpr uint64_t kChunkRows = 16;          // of a block, one task

  uint64_t block_rows() const {
    const uint64_t rows = kBlockNbytes / std::max<uint64_t>(in_ * sizeof(float), 1);
    return std::clamp<uint64_t>(rows, 1, std::max<uint64_t>(out_, 1));
  }
  uint64_t gather_rows(uint64_t m) const { return std::min(m, block_rows()); }

  void group(const ls_apply& call, uint32_t g, uint64_t begin, uint64_t end,
             const DequantizeRows& dequantize) const {
    auto* w = static_cast<float*>(call.workspace);
    float* x = w + block_rows() * in_;
    float* y = x + std::min(call.m, kPanelRows) * in_;
    for (uint64_t row = 0; row < out_; row += block_rows()) {
      const uint64_t rows = std::min(block_rows(), out_ - row);
      parallel_for((rows + kChunkRows - 1) / kChunkRows, [&](uint64_t chunk) {
        const uint64_t first = chunk * kChunkRows;
        dequantize(g, row + first, std::min(kChunkRows, rows - first), w + first * in_);
      });
      for (uint64_t m = begin; m < end; m += kPanelRows) {
        const uint64_t panel = std::min(kPanelRows, end - m);
        product(read_panel(call, m, panel, x), w, y, panel, rows);
        write_panel(call, m, panel, row, rows, y);
      }
    }
  }

  /// Rows [m, m+panel) of x as dense float32: x itself when it is that already.
  const float* read_panel(const ls_apply& call, uint64_t m, uint64_t panel, float* x) const {
    const uint64_t item = float_nbytes(call.x_dtype);
    const char* from = static_cast<const char*>(call.x) + m * call.x_stride * item;
    if (call.x_dtype == LS_DTYPE_F32 && call.x_stride == in_) {
      return reinterpret_cast<const float*>(from);
    }
    for (uint64_t i = 0; i < panel; ++i) {
      widen(call.x_dtype, from + i * call.x_stride * item, in_, x + i * in_);
    }
    return x;
  }

  void product(const float* x, const float* w, float* y, uint64_t m, uint64_t n) const {
    ls_gemm gemm = make<ls_gemm>();
    gemm.dtype = LS_DTYPE_F32;
    gemm.place = LS_PLACE_HOST;
    gemm.m = m;
    gemm.n = n;
    gemm.k = in_;
    gemm.x = x;
    gemm.w = w;
    gemm.y = y;
    if (host().gemm == nullptr) fail(LS_UNSUPPORTED, "this host offers no product");
    check_host(host().gemm(&gemm), "gemm");
  }

  void write_panel(const ls_apply& call, uint64_t m, uint64_t panel, uint64_t row, uint64_t rows,
                   float* y) const {
    const uint64_t item = float_nbytes(call.y_dtype);
    for (uint64_t i = 0; i < panel; ++i) {
      float* line = y + i * rows;
      for (uint64_t j = 0; call.bias != nullptr && j < rows; ++j) {
        float bias = 0;
        widen(call.bias_dtype,
              static_cast<const char*>(call.bias) + (row + j) * float_nbytes(call.bias_dtype), 1,
              &bias);
        line[j] += bias;
      }
      narrow(call.y_dtype, line, rows,
             static_cast<char*>(call.y) + ((m + i) * call.y_stride + row) * item);
    }
  }

  void gather(const ls_apply& call, const DequantizeRows& dequantize) const {
    if (call.x_dtype != LS_DTYPE_I64) fail(LS_INVALID_ARGUMENT, "gather expects I64 row numbers");
    const auto* rows = static_cast<const int64_t*>(call.x);
    for (uint64_t i = 0; i < call.m; ++i) {
      const int64_t row = rows[i * std::max<uint64_t>(call.x_stride, 1)];
      if (row < 0 || static_cast<uint64_t>(row) >= out_) {
        fail(LS_INVALID_ARGUMENT, "row number out of range: found " + std::to_string(row) +
                                      ", expected less than " + std::to_string(out_));
      }
    }
    auto* lines = static_cast<float*>(call.workspace);
    const uint64_t at_once = gather_rows(call.m);
    for (uint64_t first = 0; first < call.m; first += at_once) {
      parallel_for(std::min(at_once, call.m - first), [&](uint64_t i) {
        const auto row =
            static_cast<uint64_t>(rows[(first + i) * std::max<uint64_t>(call.x_stride, 1)]);
        float* line = lines + i * in_;
        dequantize(0, row, 1, line);
        narrow(
            call.y_dtype, line, in_,
            static_cast<char*>(call.y) + (first + i) * call.y_stride * float_nbytes(call.y_dtype));
      });
    }
  }

  uint32_t kind_, groups_;
  uint64_t out_, in_;
};

}  // namespace loadstone::sdk
