// The kernels on a Hopper GPU against README.md's formulas, within their bound, and how long they
// take beside LibTorch's. Needs one; skipped without.
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "device/cuda.hpp"
#include "runtime/attention/testing/bound.hpp"
#include "runtime/torch_setup.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

const at::Device kGpu{at::kCUDA, 0};

struct Shape {
  int64_t batch, heads, kv_heads, queries, keys, dim;
};

AttentionCall random_call(const Shape& s, double spread, at::ScalarType type) {
  at::manual_seed(17);
  const auto offset = at::randn({1, s.kv_heads, 1, s.dim}).mul(3);  // what the mean takes away
  const auto place = [&](const at::Tensor& x) { return x.to(kGpu, type); };
  return {.q = place(at::randn({s.batch, s.heads, s.queries, s.dim}).mul(spread)),
          .k = place(at::randn({s.batch, s.kv_heads, s.keys, s.dim}).mul(spread).add(offset)),
          .v = place(at::randn({s.batch, s.kv_heads, s.keys, s.dim})),
          .scale = 1.0 / std::sqrt(static_cast<double>(s.dim)),
          .causal = false,
          .fp8 = true};
}

AttentionCall on_host_too(AttentionCall call) {
  for (at::Tensor* x : {&call.q, &call.k, &call.v}) *x = x->to(at::kCPU);
  return call;
}

class Fp8AttentionOnHopper : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto found = device::properties(0);
    if (!found.ok()) GTEST_SKIP() << found.error().text();
    if (found->sm != 90) GTEST_SKIP() << "found sm" << found->sm << ", expected sm90";
    const Status status = set_up_cuda(0);
    ASSERT_TRUE(status.ok()) << status.error().text();
  }
  const at::NoGradGuard no_gradients_;
};

class Fp8AttentionOnHopperOf : public Fp8AttentionOnHopper,
                               public ::testing::WithParamInterface<Shape> {};

TEST_P(Fp8AttentionOnHopperOf, StaysInTheBoundOfItsFormulas) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const double spread : {0.3, 1.0, 4.0}) {
      const AttentionCall call = random_call(GetParam(), spread, type);
      const at::Tensor out = attention(call);
      ASSERT_EQ(out.scalar_type(), type);
      const Distance found = distance_to_formulas(call, out, kHopperSums);
      EXPECT_LE(found.of_bound, 1.0) << type << " " << spread;
      EXPECT_LE(found.relative_l2, 2e-2) << type << " " << spread;
      const at::Tensor host = attention(on_host_too(call)).to(at::kFloat);
      const double apart =
          out.to(at::kCPU, at::kFloat).sub(host).norm().item<double>() / host.norm().item<double>();
      EXPECT_LE(apart, 2e-2) << type << " " << spread;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Fp8AttentionOnHopperOf,
    ::testing::Values(Shape{1, 1, 1, 1, 1, 16}, Shape{1, 2, 2, 3, 7, 32},
                      Shape{2, 2, 2, 65, 127, 64}, Shape{1, 2, 2, 64, 128, 128},
                      Shape{1, 1, 1, 130, 129, 128}, Shape{1, 3, 3, 33, 300, 32},
                      Shape{2, 4, 2, 40, 200, 64}, Shape{1, 6, 1, 17, 257, 16},
                      Shape{1, 2, 2, 200, 1100, 128},
                      // More than a round of an H100's units, and a rest.
                      Shape{1, 24, 12, 1100, 140, 128}, Shape{2, 70, 70, 190, 130, 32}));

/// v of one sign: units that sum short of float32 would drift by percents.
TEST_F(Fp8AttentionOnHopper, ManyKeysOfOneSignDoNotDrift) {
  AttentionCall call = random_call({1, 1, 1, 64, 4352, 128}, 1.0, at::kFloat);
  call.v = call.v.abs();
  const at::Tensor host = attention(on_host_too(call));
  const at::Tensor out = attention(call).to(at::kCPU);
  const double drift = out.sub(host).mean().item<double>() / host.mean().item<double>();
  std::cout << "mean of " << host.mean().item<double>() << " drifts by " << drift << "\n";
  EXPECT_LE(std::abs(drift), 1e-3);
}

TEST_F(Fp8AttentionOnHopper, ReadsTheRowsOfAFusedProjection) {
  const at::Tensor placed = at::randn({1, 300, 3 * 4 * 64}).to(kGpu, at::kBFloat16);
  const auto heads = [&](int64_t first) {
    return placed.narrow(2, first * 64, 4 * 64).view({1, 300, 4, 64}).transpose(1, 2);
  };
  AttentionCall call{
      .q = heads(0), .k = heads(4), .v = heads(8), .scale = 0.125, .causal = false, .fp8 = true};
  call.q = call.q.narrow(2, 44, 256);
  const at::Tensor out = attention(call);
  for (at::Tensor* x : {&call.q, &call.k, &call.v}) *x = x->contiguous();
  EXPECT_TRUE(attention(call).equal(out));
}

TEST_F(Fp8AttentionOnHopper, KeepsWhatIsNotFinite) {
  AttentionCall call = random_call({1, 2, 2, 3, 200, 32}, 1.0, at::kFloat);
  call.q[0][1][2][5] = NAN;
  call.k[0][0][199][3] = INFINITY;
  const at::Tensor nan = attention(call).to(at::kCPU).view({3, 2, 32}).isnan();
  EXPECT_TRUE(nan.select(1, 0).all().item<bool>());
  EXPECT_FALSE(nan.narrow(0, 0, 2).select(1, 1).any().item<bool>());
  EXPECT_TRUE(nan[2][1].all().item<bool>());
}

double milliseconds(const AttentionCall& call) {
  constexpr int kRounds = 20;
  for (int i = 0; i < 3; ++i) attention(call);
  wait_for(kGpu);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) attention(call);
  wait_for(kGpu);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() * 1e3 /
         kRounds;
}

/// 4,096 image and 256 text tokens in 24 heads of 128, and shorter ones.
TEST_F(Fp8AttentionOnHopper, TakesAtMostTwiceTheTimeOfBf16) {
  for (const int64_t tokens : {1280, 2304, 4352}) {
    AttentionCall call = random_call({1, 24, 24, tokens, tokens, 128}, 1.0, at::kBFloat16);
    const double fp8 = milliseconds(call);
    call.fp8 = false;
    const double bf16 = milliseconds(call);
    std::cout << tokens << " tokens: fp8 " << fp8 << " ms, bf16 "
              << (takes_cudnn(call) ? "(cuDNN) " : "(LibTorch) ") << bf16 << " ms\n";
    if (tokens < 4096) continue;
    EXPECT_LE(fp8, 2 * bf16);  // measured: 1.37 of cuDNN's, 0.69 of flash attention's
  }
}

}  // namespace
}  // namespace loadstone::runtime::fp8_attention
