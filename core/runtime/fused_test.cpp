// Fused kernels against LibTorch's operators one at a time, on the GPU. Needs one; skipped without.
#include "runtime/fused.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include <limits>

#include "device/cuda.hpp"
#include "runtime/attention.hpp"
#include "runtime/testing/seeded.hpp"
#include "runtime/torch_setup.hpp"

namespace loadstone::runtime {
namespace {

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};
const at::Device kGpu{at::kCUDA, 0};

/// Distance from 1 to the next number.
double step_of(at::ScalarType type) {
  return type == at::kBFloat16 ? 0x1p-7 : type == at::kHalf ? 0x1p-10 : 0x1p-23;
}

class Fused : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto found = device::properties(0);
    if (!found.ok()) GTEST_SKIP() << found.error().text();
    if (const Status status = set_up_cuda(0); !status.ok()) FAIL() << status.error().text();
    if (found->sm < 80) GTEST_SKIP() << "found sm" << found->sm << ", expected sm80 or newer";
    at::manual_seed(7);  // LibTorch would take a seed from the system
  }

  at::NoGradGuard no_grad_;
};

at::Tensor normal(at::IntArrayRef sizes, at::ScalarType type) {
  return at::randn(sizes, at::TensorOptions().device(kGpu)).to(type);
}

/// Every value of `got` within one rounding of `want` (float64), plus `floor` of `largest`.
void expect_close(const at::Tensor& got, const at::Tensor& want, double floor, double largest) {
  ASSERT_EQ(got.sizes(), want.sizes());
  ASSERT_EQ(want.scalar_type(), at::kDouble);
  const double step = step_of(got.scalar_type());
  const at::Tensor bound = want.abs().mul(step).add(largest * floor);
  const at::Tensor over = got.to(at::kDouble).sub(want).abs().div(bound);
  EXPECT_LE(over.max().item().toDouble(), 1.0);
}

/// The same with the largest value wanted.
void expect_close(const at::Tensor& got, const at::Tensor& want, double floor) {
  expect_close(got, want, floor, want.abs().max().item().toDouble());
}

/// And `got` at most that much further from `want` than the operators one at a time are.
void expect_no_worse(const at::Tensor& got, const at::Tensor& sequence, const at::Tensor& want) {
  const auto error = [&](const at::Tensor& x) {
    return x.to(at::kDouble).sub(want).norm().item().toDouble() / want.norm().item().toDouble();
  };
  EXPECT_LE(error(got), 1.1 * error(sequence) + 1e-6);
}

constexpr double kFloor = 4e-7;  // float32 sums in another order

/// Rows of `x` in a matrix whose rows are longer by `gap` and begin `begin` elements late.
at::Tensor spread(const at::Tensor& x, int64_t begin, int64_t gap) {
  at::Tensor wide = normal({x.size(0), begin + x.size(1) + gap}, x.scalar_type());
  wide.narrow(1, begin, x.size(1)).copy_(x);
  return wide.narrow(1, begin, x.size(1));
}

struct Shape {
  int64_t rows, width;
};
constexpr Shape kShapes[] = {{1, 2},     {3, 7},      {64, 256}, {5, 513},   {2, 1000},
                             {17, 3072}, {300, 3072}, {4, 5120}, {2, 16384}, {3, 16383}};
struct Layout {
  int64_t begin, gap;
};
constexpr Layout kLayouts[] = {{0, 0}, {8, 16}, {0, 3}, {1, 0}};

TEST_F(Fused, LayerNormAndModulationEqualTheirOperators) {
  for (at::ScalarType type : kTypes) {
    for (const Shape& shape : kShapes) {
      for (const Layout& layout : kLayouts) {
        SCOPED_TRACE(std::to_string(shape.rows) + "x" + std::to_string(shape.width) + " of " +
                     at::toString(type) + ", begin " + std::to_string(layout.begin));
        const at::Tensor x =
            spread(normal({shape.rows, shape.width}, type).add(3), layout.begin, layout.gap);
        const at::Tensor scale = normal({shape.width}, type), shift = normal({shape.width}, type);
        at::Tensor out = spread(x, layout.gap, layout.begin);
        ASSERT_TRUE(fused::layer_norm_modulated(out, x, scale, shift, 1e-6));
        const at::Tensor wide = x.to(at::kDouble);
        const at::Tensor want = at::layer_norm(wide, {shape.width}, {}, {}, 1e-6)
                                    .mul(scale.to(at::kDouble).add(1))
                                    .add(shift.to(at::kDouble));
        expect_close(out, want, shape.width > 2 ? 2e-6 : 1e-4);  // two columns: x - mean cancels
        const at::Tensor normed = at::layer_norm(x, {shape.width}, {}, {}, 1e-6);
        expect_no_worse(out, at::addcmul(shift, normed, scale.add(1.0)), want);
      }
    }
  }
}

TEST_F(Fused, NormMayReplaceItsInput) {
  at::Tensor x = normal({9, 3072}, at::kBFloat16), out = x.clone();
  const at::Tensor scale = normal({3072}, at::kBFloat16), shift = normal({3072}, at::kBFloat16);
  ASSERT_TRUE(fused::layer_norm_modulated(out, x, scale, shift, 1e-6));
  ASSERT_TRUE(fused::layer_norm_modulated(x, x, scale, shift, 1e-6));
  EXPECT_TRUE(at::equal(x, out));
}

TEST_F(Fused, GatedSumEqualsItsOperator) {
  for (at::ScalarType type : kTypes) {
    for (const Shape& shape : kShapes) {
      for (const Layout& layout : kLayouts) {
        SCOPED_TRACE(std::to_string(shape.rows) + "x" + std::to_string(shape.width));
        at::Tensor x = spread(normal({shape.rows, shape.width}, type), layout.begin, layout.gap);
        const at::Tensor y =
            spread(normal({shape.rows, shape.width}, type), layout.gap, layout.begin);
        const at::Tensor gate = normal({shape.width}, type);
        const at::Tensor bias = layout.gap == 0 ? normal({shape.width}, type) : at::Tensor();
        const at::Tensor sum =
            bias.defined() ? y.to(at::kDouble).add(bias.to(at::kDouble)) : y.to(at::kDouble);
        const at::Tensor want = x.to(at::kDouble).add(gate.to(at::kDouble).mul(sum));
        ASSERT_TRUE(fused::add_gated(x, gate, y, bias));
        expect_close(x, want, kFloor);
      }
    }
  }
}

TEST_F(Fused, GatedSumAndItsNormAreOneKernel) {
  for (at::ScalarType type : kTypes) {
    for (const Shape& shape : kShapes) {
      for (const Layout& layout : kLayouts) {
        SCOPED_TRACE(std::to_string(shape.rows) + "x" + std::to_string(shape.width) + " of " +
                     at::toString(type) + ", begin " + std::to_string(layout.begin));
        const at::Tensor start = normal({shape.rows, shape.width}, type).add(3);
        at::Tensor x = spread(start, layout.begin, layout.gap);
        at::Tensor out = spread(start, layout.gap, layout.begin);
        const at::Tensor y =
            spread(normal({shape.rows, shape.width}, type), layout.gap, layout.begin);
        const at::Tensor gate = normal({shape.width}, type), scale = normal({shape.width}, type);
        const at::Tensor shift = normal({shape.width}, type);
        const at::Tensor bias = layout.gap == 0 ? normal({shape.width}, type) : at::Tensor();
        ASSERT_TRUE(fused::add_gated_then_norm(out, x, gate, y, bias, scale, shift, 1e-6));
        at::Tensor alone = start.clone();
        ASSERT_TRUE(fused::add_gated(alone, gate, y, bias));
        EXPECT_TRUE(at::equal(x, alone));
        const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
        const at::Tensor sum =
            wide(start).add(wide(gate).mul(bias.defined() ? wide(y).add(wide(bias)) : wide(y)));
        const at::Tensor want = at::layer_norm(sum, {shape.width}, {}, {}, 1e-6)
                                    .mul(wide(scale).add(1))
                                    .add(wide(shift));
        expect_close(out, want, shape.width > 2 ? 2e-6 : 1e-3);  // two columns: x - mean cancels
        expect_no_worse(
            out,
            at::addcmul(shift, at::layer_norm(alone, {shape.width}, {}, {}, 1e-6), scale.add(1.0)),
            want);
      }
    }
  }
}

TEST_F(Fused, RowsBesideAMatrixStayAsTheyWere) {
  const at::Tensor wide = normal({6, 40}, at::kBFloat16), before = wide.clone();
  at::Tensor x = wide.narrow(1, 8, 24);
  ASSERT_TRUE(fused::add_gated(x, normal({24}, at::kBFloat16), normal({6, 24}, at::kBFloat16), {}));
  EXPECT_TRUE(at::equal(wide.narrow(1, 0, 8), before.narrow(1, 0, 8)));
  EXPECT_TRUE(at::equal(wide.narrow(1, 32, 8), before.narrow(1, 32, 8)));
  EXPECT_FALSE(at::equal(x, before.narrow(1, 8, 24)));
}

TEST_F(Fused, GeluEqualsItsOperator) {
  for (at::ScalarType type : kTypes) {
    for (const Shape& shape : kShapes) {
      for (const Layout& layout : kLayouts) {
        for (bool with_bias : {false, true}) {
          SCOPED_TRACE(std::to_string(shape.rows) + "x" + std::to_string(shape.width));
          at::Tensor x =
              spread(normal({shape.rows, shape.width}, type).mul(4), layout.begin, layout.gap);
          const at::Tensor bias = with_bias ? normal({shape.width}, type) : at::Tensor();
          at::Tensor sum = x.to(at::kDouble), rounded = x;
          if (with_bias) {
            sum = sum.add(bias.to(at::kDouble));
            rounded = x.add(bias);
          }
          const at::Tensor want = at::gelu(sum, "tanh"), sequence = at::gelu(rounded, "tanh");
          ASSERT_TRUE(fused::gelu_tanh(x, bias));
          // 1 + tanh cancels for negative values: the error is of the input's size.
          expect_close(x, want, kFloor, sum.abs().max().item().toDouble());
          expect_no_worse(x, sequence, want);
        }
      }
    }
  }
}

TEST_F(Fused, GeluOfTheLargestNumbersIsLibTorchs) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (at::ScalarType type : kTypes) {
    for (double value : {0.0, 20.0, 60000.0, kInfinity, -20.0, -60000.0}) {
      at::Tensor x = at::full({1, 8}, value, at::TensorOptions().dtype(type).device(kGpu));
      const at::Tensor want = at::gelu(x, "tanh");
      ASSERT_TRUE(fused::gelu_tanh(x, {}));
      EXPECT_TRUE(at::equal(x, want)) << value << " of " << at::toString(type);
    }
    at::Tensor x = at::full({1, 8}, std::nan(""), at::TensorOptions().dtype(type).device(kGpu));
    ASSERT_TRUE(fused::gelu_tanh(x, {}));
    EXPECT_TRUE(x.isnan().all().item().toBool());
  }
}

struct HeadCase {
  int64_t q, kv, dim, batch, positions, offset;
};
constexpr HeadCase kHeads[] = {
    {24, 24, 128, 1, 300, 17}, {8, 8, 32, 2, 64, 5}, {4, 2, 6, 2, 3, 1},   {3, 1, 64, 1, 5, 0},
    {2, 2, 96, 3, 4, 2},       {2, 1, 256, 1, 7, 0}, {1, 1, 250, 1, 2, 0}, {5, 5, 2, 1, 4, 3}};

/// Heads normed (by `weight`, where defined) and turned, one operator at a time.
at::Tensor turned(const at::Tensor& x, const at::Tensor& weight, double eps,
                  const at::Tensor& cosine, const at::Tensor& sine) {
  const int64_t dim = x.size(3);
  const at::Tensor normed = weight.defined() ? at::rms_norm(x, {dim}, weight, eps) : x;
  const at::ScalarType type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor pairs = normed.to(type).reshape({x.size(0), x.size(1), x.size(2), dim / 2, 2});
  const at::Tensor a = pairs.select(4, 0), b = pairs.select(4, 1);
  const at::Tensor c = cosine.to(type).view({1, -1, 1, dim / 2});
  const at::Tensor s = sine.to(type).view({1, -1, 1, dim / 2});
  return at::stack({a.mul(c).sub(b.mul(s)), a.mul(s).add(b.mul(c))}, 4)
      .reshape(x.sizes())
      .to(x.scalar_type());
}

struct HeadInputs {
  at::Tensor from, bias, q_weight, k_weight, cosine, sine;
};

/// Random inputs of one case; with `gap` the projections are columns of a wider matrix.
HeadInputs inputs_of(const HeadCase& c, at::ScalarType type, bool norm, int64_t gap) {
  HeadInputs out;
  const int64_t width = (c.q + 2 * c.kv) * c.dim;
  out.from = spread(normal({c.batch * c.positions, width}, type), gap, gap);
  if (norm) {
    if (gap != 1) out.bias = normal({width}, type);
    out.q_weight = normal({c.dim}, type);
    out.k_weight = normal({c.dim}, type);
  }
  const at::Tensor angles = normal({c.positions, c.dim / 2}, at::kFloat).mul(3);
  out.cosine = angles.cos();
  out.sine = angles.sin();
  return out;
}

bool place(const HeadInputs& in, const HeadCase& c, const at::Tensor& from, at::Tensor& to) {
  return fused::place_heads({.from = from,
                             .to = to,
                             .offset = c.offset,
                             .q = c.q,
                             .kv = c.kv,
                             .dim = c.dim,
                             .bias = in.bias,
                             .q_weight = in.q_weight,
                             .k_weight = in.k_weight,
                             .q_eps = 1e-6,
                             .k_eps = 1e-5,
                             .cosine = in.cosine,
                             .sine = in.sine});
}

/// Checks rows [offset, offset + positions) of `to` against the operators.
void expect_placed(const at::Tensor& to, const HeadInputs& in, const HeadCase& c,
                   const at::Tensor& from) {
  const at::Tensor placed = to.narrow(1, c.offset, c.positions);
  const at::Tensor rounded = in.bias.defined() ? from.add(in.bias) : from;
  at::Tensor sum = from.to(at::kDouble);
  if (in.bias.defined()) sum = sum.add(in.bias.to(at::kDouble));
  int64_t first = 0;
  for (const auto& [count, weight, eps] :
       {std::tuple(c.q, in.q_weight, 1e-6), std::tuple(c.kv, in.k_weight, 1e-5)}) {
    const auto part = [&, heads = count](const at::Tensor& rows) {
      return rows.narrow(1, first * c.dim, heads * c.dim)
          .reshape({c.batch, c.positions, heads, c.dim});
    };
    const at::Tensor x = part(rounded);
    const at::Tensor got = placed.narrow(2, first * c.dim, count * c.dim).reshape(x.sizes());
    const at::Tensor wide = weight.defined() ? weight.to(at::kDouble) : weight;
    const at::Tensor want = turned(part(sum), wide, eps, in.cosine, in.sine);
    expect_close(got, want, kFloor);
    expect_no_worse(got, turned(x, weight, eps, in.cosine, in.sine), want);
    first += count;
  }
  const at::Tensor values = rounded.narrow(1, first * c.dim, c.kv * c.dim);
  EXPECT_TRUE(
      at::equal(placed.narrow(2, first * c.dim, c.kv * c.dim).reshape(values.sizes()), values));
}

TEST_F(Fused, HeadsAreNormedTurnedAndPlaced) {
  for (at::ScalarType type : kTypes) {
    for (const HeadCase& c : kHeads) {
      for (bool norm : {true, false}) {
        for (int64_t gap : {0, 1, 8}) {
          SCOPED_TRACE(std::to_string(c.q) + " heads of " + std::to_string(c.dim) + " of " +
                       at::toString(type) + ", gap " + std::to_string(gap));
          const HeadInputs in = inputs_of(c, type, norm, gap);
          const int64_t length = c.offset + c.positions + 2;
          at::Tensor to = normal({c.batch, length, in.from.size(1)}, type);
          const at::Tensor before = to.clone();
          ASSERT_TRUE(place(in, c, in.from, to));
          expect_placed(to, in, c, in.from);
          EXPECT_TRUE(at::equal(to.narrow(1, 0, c.offset), before.narrow(1, 0, c.offset)));
          EXPECT_TRUE(at::equal(to.narrow(1, length - 2, 2), before.narrow(1, length - 2, 2)));
        }
      }
    }
  }
}

TEST_F(Fused, HeadsMayStayInTheirRows) {
  for (at::ScalarType type : kTypes) {
    for (HeadCase c : kHeads) {
      c.batch = 1;
      const HeadInputs in = inputs_of(c, type, true, 0);
      at::Tensor to = normal({1, c.offset + c.positions + 1, in.from.size(1)}, type);
      const at::Tensor rows = to.select(0, 0).narrow(0, c.offset, c.positions);
      rows.copy_(in.from);
      ASSERT_TRUE(place(in, c, rows, to));
      expect_placed(to, in, c, in.from);
    }
  }
}

TEST_F(Fused, ManyQueriesAreAttendedByCudnnAsWell) {
  const auto gpu = device::properties(0);
  constexpr int64_t kCount = 3, kDim = 128, kLength = 1160;
  for (at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor rows = normal({1, kLength, 3 * kCount * kDim}, type);
    const auto part = [&](int64_t i, int64_t first) {
      return rows.narrow(2, i * kCount * kDim, kCount * kDim)
          .view({1, kLength, kCount, kDim})
          .transpose(1, 2)
          .narrow(2, first, kLength - first);
    };
    for (int64_t first : {0, 100}) {  // queries of all rows, and of the last ones
      const AttentionCall call{
          .q = part(0, first), .k = part(1, 0), .v = part(2, 0), .scale = 0.088};
      EXPECT_EQ(takes_cudnn(call), gpu->sm >= 90);
      const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
      const at::Tensor want = wide(call.q)
                                  .matmul(wide(call.k).transpose(2, 3))
                                  .mul(call.scale)
                                  .softmax(-1)
                                  .matmul(wide(call.v))
                                  .transpose(1, 2)
                                  .reshape({1, kLength - first, kCount * kDim});
      const double error =
          wide(attention(call)).sub(want).norm().item().toDouble() / want.norm().item().toDouble();
      EXPECT_LE(error, step_of(type));
    }
  }
}

TEST_F(Fused, WhatNoKernelTakesIsLeftAlone) {
  at::Tensor x = normal({4, 32}, at::kFloat), on_cpu = x.to(at::kCPU);
  const at::Tensor row = normal({32}, at::kFloat), half = row.to(at::kHalf);
  at::Tensor turned_round = normal({32, 4}, at::kFloat).t(), wide = normal({2, 16385}, at::kFloat);
  at::Tensor doubles = x.to(at::kDouble);
  EXPECT_FALSE(fused::add_gated(on_cpu, row.to(at::kCPU), on_cpu, {}));
  EXPECT_FALSE(fused::add_gated(x, half, x, {}));
  EXPECT_FALSE(fused::add_gated(x, row, x, half));
  EXPECT_FALSE(fused::add_gated(turned_round, row, x, {}));
  EXPECT_FALSE(fused::gelu_tanh(doubles, {}));
  EXPECT_FALSE(fused::gelu_tanh(turned_round, {}));
  const at::Tensor long_row = normal({16385}, at::kFloat);
  EXPECT_FALSE(fused::layer_norm_modulated(wide, wide, long_row, long_row, 1e-6));
  const HeadCase c{2, 2, 258, 1, 3, 0};
  const HeadInputs in = inputs_of(c, at::kFloat, true, 0);
  at::Tensor to = normal({1, 3, in.from.size(1)}, at::kFloat);
  EXPECT_FALSE(place(in, c, in.from, to));
}

}  // namespace
}  // namespace loadstone::runtime
