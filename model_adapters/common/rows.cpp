#include "common/rows.hpp"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>

#include <cmath>

#include "common/row_kernels.hpp"
#include "runtime/fused.hpp"

namespace loadstone::networks {

using namespace kernels;  // NOLINT(google-build-using-namespace): this file is their wrapper

at::Tensor layer_norm_modulated(const at::Tensor& x, const at::Tensor& scale,
                                const at::Tensor& shift, double eps) {
  if (!x.is_cpu()) {
    at::Tensor out = at::empty(x.sizes(), x.options());
    if (runtime::fused::layer_norm_modulated(out, x, scale, shift, eps)) return out;
    const at::Tensor normed = at::layer_norm(x, {x.size(1)}, {}, {}, eps);
    return at::addcmul(shift, normed, scale.add(1.0));
  }
  at::Tensor out = at::empty_like(x);
  const int64_t width = x.size(1);
  with_type(x, [&]<typename T>() {
    const T* from = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    over_rows(x.size(0), width, [&](int64_t begin, int64_t end) {
      std::vector<float> row_scratch, scale_scratch, shift_scratch;
      const float* scales = widened(scale.const_data_ptr<T>(), width, scale_scratch);
      const float* shifts = widened(shift.const_data_ptr<T>(), width, shift_scratch);
      Target<T> target;
      for (int64_t r = begin; r < end; ++r) {
        const float* row = widened(from + r * width, width, row_scratch);
        float mean = 0, variance = 0;
        mean_and_variance(row, width, mean, variance);
        const float inverse = 1.0f / std::sqrt(variance + static_cast<float>(eps));
        modulate(row, mean, inverse, scales, shifts, target.row(to + r * width, width), width);
        target.finish();
      }
    });
  });
  return out;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (!x.is_cpu()) return at::rms_norm(x, {x.size(1)}, weight, eps);
  at::Tensor out = at::empty_like(x);
  const int64_t width = x.size(1);
  with_type(x, [&]<typename T>() {
    const T* from = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    over_rows(x.size(0), width, [&](int64_t begin, int64_t end) {
      std::vector<float> row_scratch, weight_scratch;
      const float* weights = widened(weight.const_data_ptr<T>(), width, weight_scratch);
      Target<T> target;
      for (int64_t r = begin; r < end; ++r) {
        const float* row = widened(from + r * width, width, row_scratch);
        const float mean = sum_squares(row, width) / static_cast<float>(width);
        const float factor = 1.0f / std::sqrt(mean + static_cast<float>(eps));
        scale_by(row, factor, weights, target.row(to + r * width, width), width);
        target.finish();
      }
    });
  });
  return out;
}

void add_gated(at::Tensor& x, const at::Tensor& gate, const at::Tensor& y, const at::Tensor& bias) {
  if (!x.is_cpu()) {
    if (runtime::fused::add_gated(x, gate, y, bias)) return;
    x.addcmul_(gate, bias.defined() ? y.add(bias) : y);
    return;
  }
  const int64_t width = x.size(1);
  with_type(x, [&]<typename T>() {
    T* to = x.mutable_data_ptr<T>();
    const T* from = y.const_data_ptr<T>();
    over_rows(x.size(0), width, [&](int64_t begin, int64_t end) {
      std::vector<float> row_scratch, gate_scratch, sum;
      const float* gates = widened(gate.const_data_ptr<T>(), width, gate_scratch);
      for (int64_t r = begin; r < end; ++r) {
        const float* row = widened(from + r * width, width, row_scratch);
        if constexpr (std::is_same_v<T, float>) {
          add_product(to + r * width, gates, row, width);
        } else {
          sum.assign(to + r * width, to + (r + 1) * width);
          add_product(sum.data(), gates, row, width);
          std::copy(sum.begin(), sum.end(), to + r * width);
        }
      }
    });
  });
}

at::Tensor add_gated_then_norm(at::Tensor& x, const at::Tensor& gate, const at::Tensor& y,
                               const at::Tensor& bias, const at::Tensor& scale,
                               const at::Tensor& shift, double eps) {
  if (!x.is_cpu()) {
    at::Tensor out = at::empty(x.sizes(), x.options());
    if (runtime::fused::add_gated_then_norm(out, x, gate, y, bias, scale, shift, eps)) return out;
  }
  add_gated(x, gate, y, bias);
  return layer_norm_modulated(x, scale, shift, eps);
}

at::Tensor swiglu(const at::Tensor& x) {
  const int64_t width = x.size(1) / 2;
  return at::silu(x.narrow(1, 0, width)).mul_(x.narrow(1, width, width));
}

}  // namespace loadstone::networks
