// The float32 loops behind rows.hpp and heads.hpp. Sums run over 16 lanes, so that the compiler may
// use vectors without reordering anything; each function exists for several instruction sets.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace loadstone::networks::kernels {

float sum_squares(const float* x, int64_t n);
void mean_and_variance(const float* x, int64_t n, float& mean, float& variance);
/// out = ((x - mean)·inverse)·(1 + scale) + shift
void modulate(const float* x, float mean, float inverse, const float* scale, const float* shift,
              float* out, int64_t n);
/// out = (x·factor)·weight
void scale_by(const float* x, float factor, const float* weight, float* out, int64_t n);
/// x += gate·y
void add_product(float* x, const float* gate, const float* y, int64_t n);
/// Adjacent pairs as complex numbers times cos + i·sin; `half` pairs, in place.
void rotate_pairs(float* x, const float* cosine, const float* sine, int64_t half);
/// Element i and i + half as a pair, in place.
void rotate_halves(float* x, const float* cosine, const float* sine, int64_t half);

/// A row as float32: the memory itself, or a widened copy in `scratch`.
inline const float* widened(const float* row, int64_t /*n*/, std::vector<float>& /*scratch*/) {
  return row;
}
template <typename T>
const float* widened(const T* row, int64_t n, std::vector<float>& scratch) {
  scratch.resize(static_cast<size_t>(n));
  std::copy(row, row + n, scratch.begin());
  return scratch.data();
}

/// Where a row's float32 result goes: the memory itself, or a scratch row that finish() rounds.
template <typename T>
class Target {
 public:
  float* row(T* out, int64_t n) {
    out_ = out;
    if constexpr (std::is_same_v<T, float>) return out;
    scratch_.resize(static_cast<size_t>(n));
    return scratch_.data();
  }
  void finish() {
    if constexpr (!std::is_same_v<T, float>) std::copy(scratch_.begin(), scratch_.end(), out_);
  }

 private:
  T* out_ = nullptr;
  std::vector<float> scratch_;
};

/// Calls body.operator()<T>() with the tensor's element type: float32, bf16 or float16.
template <typename Body>
void with_type(const at::Tensor& tensor, Body body) {
  switch (tensor.scalar_type()) {
    case at::kBFloat16:
      return body.template operator()<c10::BFloat16>();
    case at::kHalf:
      return body.template operator()<c10::Half>();
    default:
      return body.template operator()<float>();
  }
}

/// body(begin, end) over rows, on several threads where the matrix is large.
template <typename Body>
void over_rows(int64_t rows, int64_t width, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width));
  at::parallel_for(0, rows, grain, body);
}

}  // namespace loadstone::networks::kernels
