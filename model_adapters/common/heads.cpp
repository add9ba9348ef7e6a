#include "common/heads.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "common/row_kernels.hpp"
#include "runtime/fused.hpp"

namespace loadstone::networks {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace)

/// One row of projections: every q and k head normed and rotated, v copied.
class RowPlacer {
 public:
  RowPlacer(const HeadCounts& heads, RotaryPairs pairs, double q_eps, double k_eps,
            const float* q_weight, const float* k_weight)
      : heads_(heads),
        pairs_(pairs),
        q_eps_(static_cast<float>(q_eps)),
        k_eps_(static_cast<float>(k_eps)),
        q_weight_(q_weight),
        k_weight_(k_weight) {}

  void place(const float* from, const float* cosine, const float* sine, float* to) const {
    const int64_t dim = heads_.dim;
    for (int64_t h = 0; h < heads_.q + heads_.kv; ++h) {
      const bool is_q = h < heads_.q;
      place_head(from + h * dim, is_q ? q_weight_ : k_weight_, is_q ? q_eps_ : k_eps_, cosine, sine,
                 to + h * dim);
    }
    const int64_t values = (heads_.q + heads_.kv) * dim;
    std::copy(from + values, from + heads_.width(), to + values);
  }

 private:
  void place_head(const float* from, const float* weight, float eps, const float* cosine,
                  const float* sine, float* to) const {
    const int64_t dim = heads_.dim;
    if (weight != nullptr) {
      const float mean = sum_squares(from, dim) / static_cast<float>(dim);
      scale_by(from, 1.0f / std::sqrt(mean + eps), weight, to, dim);
    } else {
      std::copy(from, from + dim, to);
    }
    if (pairs_ == RotaryPairs::adjacent) {
      rotate_pairs(to, cosine, sine, dim / 2);
    } else {
      rotate_halves(to, cosine, sine, dim / 2);
    }
  }

  HeadCounts heads_;
  RotaryPairs pairs_;
  float q_eps_, k_eps_;
  const float *q_weight_, *k_weight_;
};

template <typename T>
const float* weight_of(const HeadNorm& norm, int64_t dim, std::vector<float>& scratch) {
  if (!norm.weight.defined()) return nullptr;
  return widened(norm.weight.const_data_ptr<T>(), dim, scratch);
}

/// Heads [rows, count, dim], normed and rotated as float32 would be, by ATen's operators.
at::Tensor turned(const at::Tensor& heads, const HeadNorm& norm, const RotaryTable& table,
                  RotaryPairs pairs, int64_t batch) {
  const int64_t rows = heads.size(0), count = heads.size(1), dim = heads.size(2);
  at::Tensor x = heads;
  if (norm.weight.defined()) x = at::rms_norm(x, {dim}, norm.weight, norm.eps);
  x = x.to(at::kFloat).view({batch, rows / batch, count, dim});
  const at::Tensor cosine = table.cosine.view({1, -1, 1, dim / 2});
  const at::Tensor sine = table.sine.view({1, -1, 1, dim / 2});
  const bool adjacent = pairs == RotaryPairs::adjacent;
  const int64_t axis = adjacent ? 4 : 3;
  x = adjacent ? x.view({batch, rows / batch, count, dim / 2, 2})
               : x.view({batch, rows / batch, count, 2, dim / 2});
  const at::Tensor a = x.select(axis, 0), b = x.select(axis, 1);
  const at::Tensor real = a.mul(cosine).sub_(b.mul(sine)),
                   imaginary = a.mul(sine).add_(b.mul(cosine));
  return at::stack({real, imaginary}, axis).view({batch, rows / batch, count * dim});
}

void place_on_gpu(const at::Tensor& projections, const HeadCounts& heads, const HeadNorm& q_norm,
                  const HeadNorm& k_norm, const RotaryTable& table, RotaryPairs pairs,
                  at::Tensor& out, int64_t offset, const at::Tensor& bias) {
  if (pairs == RotaryPairs::adjacent && runtime::fused::place_heads({.from = projections,
                                                                     .to = out,
                                                                     .offset = offset,
                                                                     .q = heads.q,
                                                                     .kv = heads.kv,
                                                                     .dim = heads.dim,
                                                                     .bias = bias,
                                                                     .q_weight = q_norm.weight,
                                                                     .k_weight = k_norm.weight,
                                                                     .q_eps = q_norm.eps,
                                                                     .k_eps = k_norm.eps,
                                                                     .cosine = table.cosine,
                                                                     .sine = table.sine})) {
    return;
  }
  const at::Tensor whole = bias.defined() ? projections.add(bias) : projections;
  const int64_t batch = out.size(0), rows = projections.size(0), count = rows / batch;
  const int64_t q = heads.q * heads.dim, kv = heads.kv * heads.dim;
  at::Tensor place = out.narrow(1, offset, count);
  const auto part = [&](int64_t from, int64_t many) {
    return whole.narrow(1, from, many * heads.dim).reshape({rows, many, heads.dim});
  };
  place.narrow(2, 0, q).copy_(turned(part(0, heads.q), q_norm, table, pairs, batch));
  place.narrow(2, q, kv).copy_(turned(part(q, heads.kv), k_norm, table, pairs, batch));
  place.narrow(2, q + kv, kv).copy_(whole.narrow(1, q + kv, kv).view({batch, count, kv}));
}

}  // namespace

at::Tensor rotary_angles(const std::vector<int64_t>& positions, int64_t dim, double theta) {
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  const at::Tensor exponents = at::arange(0, dim, 2, floats).div(static_cast<double>(dim));
  const at::Tensor frequencies = at::pow(theta, exponents).reciprocal();
  return at::outer(at::tensor(positions).to(at::kFloat), frequencies);
}

RotaryTable rotary_table(const at::Tensor& angles, at::Device device) {
  return {angles.cos().contiguous().to(device), angles.sin().contiguous().to(device)};
}

void place_heads(const at::Tensor& projections, const HeadCounts& heads, const HeadNorm& q_norm,
                 const HeadNorm& k_norm, const RotaryTable& table, RotaryPairs pairs,
                 at::Tensor& out, int64_t offset, const at::Tensor& bias) {
  if (!out.is_cpu()) {
    return place_on_gpu(projections, heads, q_norm, k_norm, table, pairs, out, offset, bias);
  }
  const int64_t width = heads.width(), batch = out.size(0), length = out.size(1);
  const int64_t count = projections.size(0) / batch;
  const float* cosine = table.cosine.const_data_ptr<float>();
  const float* sine = table.sine.const_data_ptr<float>();
  const int64_t half = heads.dim / 2;
  with_type(projections, [&]<typename T>() {
    const T* from = projections.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    over_rows(batch * count, width, [&](int64_t begin, int64_t end) {
      std::vector<float> row_scratch, q_scratch, k_scratch;
      const RowPlacer placer(heads, pairs, q_norm.eps, k_norm.eps,
                             weight_of<T>(q_norm, heads.dim, q_scratch),
                             weight_of<T>(k_norm, heads.dim, k_scratch));
      Target<T> target;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t b = r / count, t = r % count;
        const float* row = widened(from + r * width, width, row_scratch);
        float* placed = target.row(to + (b * length + offset + t) * width, width);
        placer.place(row, cosine + t * half, sine + t * half, placed);
        target.finish();
      }
    });
  });
}

at::Tensor view_heads(const at::Tensor& placed, const HeadCounts& heads, int64_t first,
                      int64_t count) {
  return placed.narrow(2, first * heads.dim, count * heads.dim)
      .view({placed.size(0), placed.size(1), count, heads.dim})
      .transpose(1, 2);
}

}  // namespace loadstone::networks
