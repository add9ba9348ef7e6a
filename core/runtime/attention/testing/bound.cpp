#include "runtime/attention/testing/bound.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/attention/fp8.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

using Matrix = std::vector<std::vector<double>>;

/// Nearest e4m3 value, ties to even, saturating; by its definition.
double e4m3(double x) {
  if (std::isnan(x)) return x;
  const int exponent = std::max(x == 0 ? -6 : std::ilogb(x), -6);
  const double ulp = std::ldexp(1.0, exponent - 3);
  return std::clamp(std::nearbyint(x / ulp) * ulp, -448.0, 448.0);
}

Matrix matrix_of(const at::Tensor& x) {
  const at::Tensor dense = x.to(at::kCPU, at::kDouble).contiguous();
  const double* at = dense.const_data_ptr<double>();
  Matrix out;
  for (int64_t r = 0; r < dense.size(0); ++r) {
    out.emplace_back(at + r * dense.size(1), at + (r + 1) * dense.size(1));
  }
  return out;
}

/// The operands of one head, in float32 where a code depends on it (fp8.cpp's own, whose rounding
/// the bound doesn't cover) and as real numbers from there on.
struct Head {
  Matrix q, k, v;                  // values on the grid
  std::vector<double> qs, ks, vs;  // scales: a query, a key, a channel
};

std::vector<double> wide(const std::vector<float>& x) { return {x.begin(), x.end()}; }

Head head_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto prepare = [](const at::Tensor& x, size_t scales, auto&& body, Matrix& values) {
    const at::Tensor dense = x.to(at::kCPU, at::kFloat).contiguous();
    std::vector<float> grid(static_cast<size_t>(dense.numel())), found(scales);
    body(Rows{dense.const_data_ptr<float>(), dense.size(0), dense.size(1), dense.size(1)},
         grid.data(), found.data());
    for (int64_t r = 0; r < dense.size(0); ++r) {
      const auto row = grid.begin() + r * dense.size(1);
      values.emplace_back(row, row + dense.size(1));
    }
    return wide(found);
  };
  const auto signs = rotation_signs(q.size(1));
  Head out;
  out.qs = prepare(
      q, static_cast<size_t>(q.size(0)),
      [&](const Rows& x, float* g, float* s) { prepare_q(x, signs, g, s, Cpu::scalar); }, out.q);
  out.ks = prepare(
      k, static_cast<size_t>(key_blocks(k.size(0))),
      [&](const Rows& x, float* g, float* s) { prepare_k(x, signs, g, s, Cpu::scalar); }, out.k);
  out.vs = prepare(
      v, static_cast<size_t>(v.size(1)),
      [](const Rows& x, float* g, float* s) { prepare_v(x, g, s, Cpu::scalar); }, out.v);
  return out;
}

/// Weights of one query with how far each may be off.
struct Weights {
  std::vector<double> p, slack;
  double sum = 0, slack_sum = 0;
};

Weights weights_of(const Head& head, size_t i, double scale, Sums sums) {
  const size_t keys = head.k.size(), dim = head.q[i].size();
  std::vector<double> t(keys), off(keys);
  for (size_t j = 0; j < keys; ++j) {
    double product = 0, magnitude = 0;
    for (size_t c = 0; c < dim; ++c) {
      product += head.q[i][c] * head.k[j][c];
      magnitude += std::abs(head.q[i][c] * head.k[j][c]);
    }
    const double factor = head.qs[i] * head.ks[j / kKeyBlock] * scale * std::log2(std::exp(1.0));
    t[j] = product * factor;
    // float32's products of scales and exp2's own error besides the sum's.
    off[j] = magnitude * std::abs(factor) * sums.each + std::abs(t[j]) * 0x1p-21 + 0x1p-20;
  }
  Weights out;
  double running = -std::numeric_limits<double>::infinity();
  std::vector<double> maxima;
  for (size_t begin = 0; begin < keys; begin += kKeyBlock) {
    for (size_t j = begin; j < std::min<size_t>(begin + kKeyBlock, keys); ++j) {
      running = std::max(running, std::ceil(t[j]));
    }
    maxima.push_back(running);
  }
  for (size_t j = 0; j < keys; ++j) {
    const double maximum = maxima[j / kKeyBlock], back = std::exp2(maximum - running);
    const auto weight = [&](double x) { return e4m3(std::exp2(x - maximum + kPeakLog2)) * back; };
    // A maximum that is one lower halves the grid's last subnormal step.
    const double slack =
        std::max(weight(t[j] + off[j]) - weight(t[j]), weight(t[j]) - weight(t[j] - off[j])) +
        0x1p-9 * back;
    out.p.push_back(weight(t[j]));
    out.slack.push_back(slack);
    out.sum += out.p.back();
    out.slack_sum += slack;
  }
  return out;
}

}  // namespace

std::vector<double> rotated_by_matrix(const std::vector<double>& x) {
  const size_t dim = x.size();
  const auto signs = rotation_signs(static_cast<int64_t>(dim));
  std::vector<double> out(dim);
  for (size_t c = 0; c < dim; ++c) {
    for (size_t r = 0; r < dim; ++r) {
      const double h = std::popcount(r & c) % 2 == 0 ? 1.0 : -1.0;  // Sylvester's entry
      out[c] += x[r] * signs[r] * h / std::sqrt(static_cast<double>(dim));
    }
  }
  return out;
}

Distance distance_to_formulas(const AttentionCall& call, const at::Tensor& out, Sums sums) {
  const int64_t heads = call.q.size(1), dim = call.q.size(3);
  const double rounding = out.scalar_type() == at::kFloat ? 0x1p-22 : 0x1p-8;
  Distance worst;
  double error2 = 0, norm2 = 0;
  for (int64_t b = 0; b < call.q.size(0); ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / call.k.size(1));
      const Head head = head_of(call.q[b][h], call.k[b][kv], call.v[b][kv]);
      const Matrix found = matrix_of(out[b].narrow(1, h * dim, dim));
      for (size_t i = 0; i < head.q.size(); ++i) {
        const Weights w = weights_of(head, i, call.scale, sums);
        for (size_t c = 0; c < static_cast<size_t>(dim); ++c) {
          double mean = 0, magnitude = 0, moved = 0;
          for (size_t j = 0; j < head.k.size(); ++j) mean += w.p[j] * head.v[j][c] / w.sum;
          for (size_t j = 0; j < head.k.size(); ++j) {
            magnitude += w.p[j] * std::abs(head.v[j][c]) / w.sum;
            moved += w.slack[j] * std::abs(head.v[j][c] - mean);
          }
          const double expected = mean * head.vs[c];
          const double bound = head.vs[c] * (moved / std::max(w.sum - w.slack_sum, 1.0) +
                                             2 * sums.each * magnitude) +
                               std::abs(expected) * rounding;
          const double error = std::abs(found[i][c] - expected);
          worst.of_bound = std::max(worst.of_bound, bound > 0 ? error / bound : error);
          error2 += error * error;
          norm2 += expected * expected;
        }
      }
    }
  }
  worst.relative_l2 = std::sqrt(error2 / std::max(norm2, 1e-30));
  return worst;
}

}  // namespace loadstone::runtime::fp8_attention
