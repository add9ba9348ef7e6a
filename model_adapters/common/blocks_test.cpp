// Shared blocks against the plain formulas, at widths that don't fill a vector, in each dtype.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <map>

#include "common/causal_blocks.hpp"
#include "common/heads.hpp"
#include "common/latents.hpp"
#include "common/rows.hpp"
#include "common/timestep.hpp"
#include "runtime/testing/seeded.hpp"
#include "runtime/testing/tensor_file.hpp"

namespace loadstone::networks {
namespace {

using testing::relative_l2;

struct Type {
  at::ScalarType type;
  double bound;  // relative L2: float32 sums, or one rounding to bf16 or float16
};
constexpr Type kTypes[] = {{at::kFloat, 1e-6}, {at::kBFloat16, 4e-3}, {at::kHalf, 5e-4}};
constexpr int64_t kWidths[] = {1, 7, 16, 33, 256};

TEST(Rows, NormsAndModulationEqualTheirFormulas) {
  for (const Type& type : kTypes) {
    for (int64_t width : kWidths) {
      SCOPED_TRACE(width);
      const at::Tensor x = at::randn({5, width}).add(3).to(type.type);
      const at::Tensor scale = at::randn({width}).to(type.type);
      const at::Tensor shift = at::randn({width}).to(type.type);
      const at::Tensor wide = x.to(at::kDouble);
      const at::Tensor s = scale.to(at::kDouble), t = shift.to(at::kDouble);
      if (width > 1) {  // one column has no variance
        EXPECT_LE(relative_l2(layer_norm_modulated(x, scale, shift, 1e-6),
                              at::layer_norm(wide, {width}, {}, {}, 1e-6).mul(s.add(1)).add(t)),
                  type.bound);
      }
      EXPECT_LE(relative_l2(rms_norm(x, scale, 1e-6),
                            wide.mul(wide.pow(2).mean(1, true).add(1e-6).rsqrt()).mul(s)),
                type.bound);
      at::Tensor sum = x.clone();
      add_gated(sum, scale, x);
      EXPECT_LE(relative_l2(sum, wide.add(s.mul(wide))), type.bound);
    }
  }
}

TEST(Rows, SwigluGatesTheSecondHalf) {
  const at::Tensor x = at::randn({3, 10});
  EXPECT_TRUE(at::allclose(swiglu(x), at::silu(x.narrow(1, 0, 5)).mul(x.narrow(1, 5, 5))));
}

/// One head by the formula: normed, rotated, float64.
at::Tensor rotated(const at::Tensor& head, const RotaryTable& table, RotaryPairs pairs) {
  const at::Tensor x = head.to(at::kDouble);
  const at::Tensor c = table.cosine.to(at::kDouble), s = table.sine.to(at::kDouble);
  const int64_t half = x.size(1) / 2;
  if (pairs == RotaryPairs::halves) {
    const at::Tensor a = x.narrow(1, 0, half), b = x.narrow(1, half, half);
    return at::cat({a.mul(c).sub(b.mul(s)), b.mul(c).add(a.mul(s))}, 1);
  }
  const at::Tensor split = x.view({-1, half, 2});
  const at::Tensor a = split.select(2, 0), b = split.select(2, 1);
  return at::stack({a.mul(c).sub(b.mul(s)), a.mul(s).add(b.mul(c))}, 2).view(x.sizes());
}

TEST(Heads, AreNormedRotatedAndPlaced) {
  const HeadCounts heads{.q = 4, .kv = 2, .dim = 6};
  const RotaryTable table = rotary_table(rotary_angles({-2, 0, 5}, 6, 1e4));
  for (const Type& type : kTypes) {
    for (RotaryPairs pairs : {RotaryPairs::adjacent, RotaryPairs::halves}) {
      const at::Tensor projections = at::randn({2 * 3, heads.width()}).to(type.type);
      const HeadNorm norm{at::randn({6}).to(type.type), 1e-6};
      at::Tensor out = at::zeros({2, 5, heads.width()}).to(type.type);
      place_heads(projections, heads, norm, {}, table, pairs, out, 1);
      EXPECT_TRUE(at::equal(out.select(1, 0), at::zeros({2, heads.width()}).to(type.type)));
      EXPECT_TRUE(at::equal(out.select(1, 4), at::zeros({2, heads.width()}).to(type.type)));
      const at::Tensor q = view_heads(out, heads, 0, 4), k = view_heads(out, heads, 4, 2);
      const at::Tensor v = view_heads(out, heads, 6, 2);
      for (int64_t b = 0; b < 2; ++b) {
        const at::Tensor rows = projections.narrow(0, b * 3, 3);
        const at::Tensor first = rows.narrow(1, 6, 6).to(at::kDouble);  // head 1
        const at::Tensor normed = first.mul(first.pow(2).mean(1, true).add(1e-6).rsqrt())
                                      .mul(norm.weight.to(at::kDouble));
        EXPECT_LE(relative_l2(q[b][1].narrow(0, 1, 3), rotated(normed, table, pairs)), type.bound);
        EXPECT_LE(
            relative_l2(k[b][1].narrow(0, 1, 3), rotated(rows.narrow(1, 5 * 6, 6), table, pairs)),
            type.bound);
        EXPECT_TRUE(at::equal(v[b][0].narrow(0, 1, 3), rows.narrow(1, 6 * 6, 6)));
      }
    }
  }
}

TEST(Timestep, RoundsToBf16BeforeTheProduct) {
  const at::Tensor t = at::full({1}, 0.7371);
  const at::Tensor features = timestep_features(t.to(at::kBFloat16), 8);
  EXPECT_EQ(features.scalar_type(), at::kBFloat16);
  const float rounded = t.to(at::kBFloat16).item().toFloat();
  EXPECT_NEAR(features[0][0].item().toFloat(), std::cos(rounded * 1000.0f), 4e-3);
  EXPECT_NEAR(timestep_features(t, 8)[0][4].item().toFloat(), std::sin(0.7371f * 1000.0f), 1e-4);
}

TEST(Latents, PackingIsInvertible) {
  const at::Tensor latents = at::randn({2, 3, 4, 6});
  const at::Tensor packed = pack_latents(latents);
  EXPECT_EQ(packed.sizes(), (std::vector<int64_t>{2, 6, 12}));
  // Token 4 is row 1, column 1; inside it channel, then row, then column.
  EXPECT_EQ(packed[1][4][5].item().toFloat(), latents[1][1][2][3].item().toFloat());
  EXPECT_TRUE(at::equal(unpack_latents(packed, 4, 6), latents));
}

TEST(Latents, GuidanceKeepsTheConditionalNorm) {
  const at::Tensor v = at::randn({5, 8}), u = at::randn({5, 8});
  const at::Tensor guided = guide(v, u, 4.0);
  EXPECT_TRUE(at::allclose(guided.norm(2, -1), v.norm(2, -1)));
  EXPECT_TRUE(at::allclose(guide(v, u, 1.0), v, 1e-4, 1e-5));
}

TEST(Latents, PixelsRoundHalfToEvenAndClamp) {
  const float half = 1.0f / 255.0f;  // 0.5 of a step after x·0.5 + 0.5
  const at::Tensor x = at::zeros({1, 3, 1, 2});
  x[0][0][0][0].fill_(-2.0);
  x[0][1][0][0].fill_(2.0);
  x[0][2][0][0].fill_(half - 1.0f);  // 0.5 → 0
  const auto frames = to_frames(x);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].rgb[0], 0);
  EXPECT_EQ(frames[0].rgb[1], 255);
  EXPECT_LE(frames[0].rgb[2], 1);
  EXPECT_EQ(frames[0].rgb[3], 128);  // 127.5 → 128
  const at::Tensor back = from_frame(frames[0]);
  EXPECT_NEAR(back[0][1][0][0].item().toFloat(), 1.0, 1e-6);
}

/// Weights by name, for blocks alone.
class NamedWeights final : public runtime::Weights {
 public:
  explicit NamedWeights(std::map<std::string, at::Tensor> tensors) : tensors_(std::move(tensors)) {}
  const Node& config() const override { return config_; }
  at::ScalarType dtype() const override { return at::kFloat; }
  const std::shared_ptr<runtime::RunState>& state() const override { return state_; }
  bool has_layer(const std::string&) const override { return false; }
  bool has_tensor(const std::string& name) const override { return tensors_.contains(name); }
  Result<std::unique_ptr<runtime::Linear>> linear(const std::string& path) override {
    return Error{Code::not_found, "none", path, "", "", {}};
  }
  Result<std::unique_ptr<runtime::Embedding>> embedding(const std::string& path) override {
    return Error{Code::not_found, "none", path, "", "", {}};
  }
  Result<at::Tensor> tensor(const std::string& name) override { return tensors_.at(name); }

 private:
  std::map<std::string, at::Tensor> tensors_;
  Node config_;
  std::shared_ptr<runtime::RunState> state_ = std::make_shared<runtime::RunState>();
};

TEST(FrameConv, EqualsTheCausalConvolutionOfOneFrame) {
  const at::NoGradGuard no_gradients;
  const at::Tensor weight = at::randn({4, 3, 3, 3, 3}), bias = at::randn({4});
  NamedWeights weights({{"c.weight", weight}, {"c.bias", bias}});
  auto conv = FrameConv::open(weights, "c");
  ASSERT_TRUE(conv.ok()) << conv.error().text();
  const at::Tensor x = at::randn({2, 3, 5, 6});
  // Two frames of zeros before the first, one pixel round it.
  const at::Tensor padded = at::constant_pad_nd(x.unsqueeze(2), {1, 1, 1, 1, 2, 0});
  EXPECT_LE(relative_l2((*conv)(x), at::conv3d(padded, weight, bias).squeeze(2)), 1e-6);
  EXPECT_EQ(conv->halving(at::randn({1, 3, 4, 6})).sizes(), (std::vector<int64_t>{1, 4, 2, 3}));
}

TEST(FrameConv, RefusesKernelsWithoutACentre) {
  NamedWeights weights({{"c.weight", at::randn({4, 3, 2, 2})}, {"c.bias", at::randn({4})}});
  auto conv = FrameConv::open(weights, "c");
  ASSERT_FALSE(conv.ok());
  EXPECT_EQ(conv.error().text(),
            "convolution rejected: c.weight: found 4 axes or an even or oblong kernel, expected "
            "[out, in, (t,) k, k] with odd k");
}

}  // namespace
}  // namespace loadstone::networks
