// y = x·Wᵀ through cublasLt, opened when the first layer runs: a plugin needs no CUDA library to
// be planned with or to run on the host.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace loadstone::common::cuda {

/// Scales of both operands: none, one a row each (of x: m, of W: n), or groups of 128 along K (x:
/// scale of row i, group g at [g·m + i]) by blocks of 128 × 128 (W: row-major, its K/128 columns a
/// multiple of 4).
enum class Scaling { none, rows, blocks };

/// x (m, k), W (n, k), y (m, n), row-major, leading dimensions in elements. dtypes are LS_DTYPE_*:
/// x and W both F32, BF16, F16 or I8 (y I32), or x F8_E4M3 and W F8_E4M3 or F8_E5M2. Sums are
/// float32, of fp8 never the fast, lossy ones; I8's are exact.
struct LtShape {
  uint32_t x_dtype = 0, w_dtype = 0, y_dtype = 0;
  Scaling scaling = Scaling::none;
  bool bias = false;  // of y's dtype, n values, added before y is rounded
  uint64_t m = 0, n = 0, k = 0, x_ld = 0, w_ld = 0, y_ld = 0;
  uint32_t alignment = 16;  // bytes, a power of two that divides every pointer and row
  auto operator<=>(const LtShape&) const = default;
};

struct LtCall {
  const void *x, *w;
  const float *x_scale, *w_scale;  // on the device; with a scaling
  const void* bias;
  void* y;
  void* workspace;  // LtProduct::kWorkspace bytes
  void* stream;
};

class LtProduct {
 public:
  static constexpr uint64_t kWorkspace = 32u << 20;

  /// The library on the calling thread's current GPU, one for the process. Errors (thrown):
  /// LS_UNSUPPORTED without cublasLt.
  static const LtProduct& current();
  ~LtProduct();
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;

  /// Whether the library has an algorithm for the shape (asked once, then remembered).
  bool can(const LtShape& shape) const;
  /// Enqueues. Errors (thrown): LS_UNSUPPORTED without an algorithm.
  void run(const LtShape& shape, const LtCall& call) const;

 private:
  struct Entry;
  LtProduct();
  const Entry& entry(const LtShape& shape) const;

  void* handle_ = nullptr;
  mutable std::mutex mutex_;
  mutable std::map<LtShape, std::unique_ptr<Entry>> entries_;
};

/// The largest power of two up to 16 that divides a pointer and a row's bytes.
inline uint32_t alignment_of(const void* at, uint64_t row_nbytes) {
  uint32_t out = 16;
  while (out > 1 && ((reinterpret_cast<uintptr_t>(at) | row_nbytes) & (out - 1)) != 0) out /= 2;
  return out;
}

}  // namespace loadstone::common::cuda
