#include "plugin/gemm.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <loadstone/plugin/floats.hpp>
#include <string_view>

#include "base/text.hpp"

namespace loadstone::plugin {

namespace {

constexpr uint64_t kTile = 4;
constexpr uint64_t kColumns = 2048;  // of k at a time: 4 + 4 rows of them stay in the L1/L2 caches
constexpr uint64_t kBlockRows = 64;  // rows of w that one task widens and multiplies
constexpr uint64_t kExactRun = 1u << 16;  // products of int8 that an int32 surely holds

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> out{};
    for (int code = 0; code < 256; ++code) {
      const int exponent = (code >> 3) & 15, mantissa = code & 7;
      float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                  : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
      if ((code & 0x7f) == 0x7f) value = NAN;
      out[static_cast<size_t>(code)] = (code & 0x80) != 0 ? -value : value;
    }
    return out;
  }();
  return table;
}

uint64_t item_nbytes(uint32_t dtype) {
  switch (dtype) {
    case LS_DTYPE_F32:
      return 4;
    case LS_DTYPE_BF16:
    case LS_DTYPE_F16:
      return 2;
    case LS_DTYPE_F8_E4M3:
    case LS_DTYPE_I8:
      return 1;
    default:
      return 0;
  }
}

void widen_run(uint32_t dtype, const void* from, uint64_t count, float* to) {
  if (dtype != LS_DTYPE_F8_E4M3) return sdk::widen(dtype, from, count, to);
  const auto& values = e4m3_values();
  const auto* codes = static_cast<const uint8_t*>(from);
  for (uint64_t i = 0; i < count; ++i) to[i] = values[codes[i]];
}

Result<const detail::Kernel*> chosen_kernel() {
  const char* forced = std::getenv("LOADSTONE_CPU");
  const auto& all = detail::kernels();
  if (forced == nullptr || *forced == '\0') return &all.back();
  // Plugins tell avx512vnni from avx512 (no AMX); here there is no difference.
  const std::string_view name = std::string_view(forced) == "avx512vnni" ? "avx512" : forced;
  for (const detail::Kernel& kernel : all) {
    if (name == kernel.name) return &kernel;
  }
  return Error{Code::invalid_argument, "kernel not available", "LOADSTONE_CPU",
               "found " + loadstone::quoted(forced) +
                   ", expected scalar, avx2, avx512 or avx512vnni as this processor has",
               ""};
}

/// One operand's rows as float32, [begin, begin+count) × [column, column+width).
class Panel {
 public:
  Panel(uint32_t dtype, const void* at, uint64_t k) : dtype_(dtype), at_(at), k_(k) {}

  const float* row(uint64_t row, uint64_t column, uint64_t width, float* room) const {
    const char* from = static_cast<const char*>(at_) + (row * k_ + column) * item_nbytes(dtype_);
    if (dtype_ == LS_DTYPE_F32) return reinterpret_cast<const float*>(from);
    widen_run(dtype_, from, width, room);
    return room;
  }

 private:
  uint32_t dtype_;
  const void* at_;
  uint64_t k_;
};

struct Task {
  const ls_gemm& call;
  const detail::Kernel& kernel;

  /// Columns [begin, end) of y.
  void floats(uint64_t begin, uint64_t end) const {
    for (uint64_t i = 0; i < call.m; ++i)
      std::fill_n(call.y + i * call.n + begin, end - begin, 0.0f);
    std::vector<float> w_room(kBlockRows * kColumns), x_room(kTile * kColumns);
    const Panel x(call.dtype, call.x, call.k), w(call.dtype, call.w, call.k);
    for (uint64_t c = 0; c < call.k; c += kColumns) {
      const uint64_t width = std::min(kColumns, call.k - c);
      const float* w_rows[kBlockRows];
      for (uint64_t j = begin; j < end; ++j) {
        w_rows[j - begin] = w.row(j, c, width, w_room.data() + (j - begin) * kColumns);
      }
      for (uint64_t i = 0; i < call.m; i += kTile) {
        const float* x_rows[kTile];
        for (uint64_t a = 0; a < kTile; ++a) {
          // Rows past the end repeat the last one; their sums are dropped.
          const uint64_t row = std::min(i + a, call.m - 1);
          x_rows[a] =
              row == i + a ? x.row(row, c, width, x_room.data() + a * kColumns) : x_rows[a - 1];
        }
        tiles(x_rows, w_rows, i, begin, end, width);
      }
    }
    if (call.x_scale != nullptr || call.w_scale != nullptr) scale(begin, end);
  }

  void tiles(const float* const* x_rows, const float* const* w_rows, uint64_t i, uint64_t begin,
             uint64_t end, uint64_t width) const {
    for (uint64_t j = begin; j < end; j += kTile) {
      const float* tile[kTile];
      for (uint64_t b = 0; b < kTile; ++b) tile[b] = w_rows[std::min(j + b, end - 1) - begin];
      float sums[kTile * kTile] = {};
      kernel.dot(x_rows, tile, width, sums);
      for (uint64_t a = 0; a < std::min(kTile, call.m - i); ++a) {
        for (uint64_t b = 0; b < std::min(kTile, end - j); ++b) {
          call.y[(i + a) * call.n + j + b] += sums[a * kTile + b];
        }
      }
    }
  }

  /// Integers: exact, then one float32 rounding.
  void integers(uint64_t begin, uint64_t end) const {
    const auto* x = static_cast<const int8_t*>(call.x);
    const auto* w = static_cast<const int8_t*>(call.w);
    for (uint64_t i = 0; i < call.m; ++i) {
      for (uint64_t j = begin; j < end; ++j) {
        int64_t sum = 0;
        for (uint64_t c = 0; c < call.k; c += kExactRun) {
          sum += kernel.dot_i8(x + i * call.k + c, w + j * call.k + c,
                               std::min(kExactRun, call.k - c));
        }
        call.y[i * call.n + j] = static_cast<float>(sum);
      }
    }
    scale(begin, end);
  }

  void scale(uint64_t begin, uint64_t end) const {
    for (uint64_t i = 0; i < call.m; ++i) {
      const float xs = call.x_scale == nullptr ? 1.0f : call.x_scale[call.x_per_row != 0 ? i : 0];
      for (uint64_t j = begin; j < end; ++j) {
        const float ws = call.w_scale == nullptr ? 1.0f : call.w_scale[call.w_per_row != 0 ? j : 0];
        call.y[i * call.n + j] = xs * (ws * call.y[i * call.n + j]);
      }
    }
  }
};

}  // namespace

Status product(const ls_gemm& call, ThreadPool* pool) {
  if (call.place != LS_PLACE_HOST || item_nbytes(call.dtype) == 0) {
    return Error{Code::unsupported, "product rejected", "",
                 "found dtype " + std::to_string(call.dtype) + " on place " +
                     std::to_string(call.place) +
                     ", expected F32, BF16, F16, F8_E4M3 or I8 on the host",
                 ""};
  }
  if (call.x == nullptr || call.w == nullptr || call.y == nullptr) {
    return Error{Code::invalid_argument, "product rejected", "", "found a null pointer", ""};
  }
  LS_TRY(const detail::Kernel* kernel, chosen_kernel());
  const Task task{call, *kernel};
  const uint64_t blocks = (call.n + kBlockRows - 1) / kBlockRows;
  const auto block = [&](size_t b) {
    const uint64_t begin = b * kBlockRows, end = std::min(call.n, begin + kBlockRows);
    if (call.dtype == LS_DTYPE_I8) {
      task.integers(begin, end);
    } else {
      task.floats(begin, end);
    }
  };
  if (call.m == 0) return {};
  if (pool != nullptr && blocks > 1) {
    pool->for_each(blocks, block);
  } else {
    for (uint64_t b = 0; b < blocks; ++b) block(b);
  }
  return {};
}

}  // namespace loadstone::plugin
