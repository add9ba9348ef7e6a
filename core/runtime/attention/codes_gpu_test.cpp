// Steps 1 to 4 of README.md on a Hopper GPU: codes and scales of q, k and v have the host's bits.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "common/codecs/e4m3.hpp"
#include "device/cuda.hpp"
#include "runtime/attention/cuda/layout.hpp"
#include "runtime/attention/fp8.hpp"
#include "runtime/attention/kernel_call.hpp"
#include "runtime/testing/seeded.hpp"
#include "runtime/torch_setup.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

const at::Device kGpu{at::kCUDA, 0};

struct Shape {
  int64_t heads, rows, dim;
};

/// What one head's matrix became: values on the e4m3 grid and their scales.
struct Codes {
  explicit Codes(const at::Tensor& x)
      : rows{x.const_data_ptr<float>(), x.size(0), x.size(1), x.stride(0)},
        values(static_cast<size_t>(rows.rows * rows.dim)),
        scales(static_cast<size_t>(rows.rows + rows.dim)) {}
  Rows rows;
  std::vector<float> values, scales;
};

/// The workspace after prepare(), brought to the host.
class Prepared {
 public:
  explicit Prepared(const KernelCall& call)
      : bytes_(call.workspace.to(at::kCPU)),
        shift_(static_cast<const char*>(bytes_.const_data_ptr()) -
               static_cast<const char*>(call.workspace.const_data_ptr())),
        space_(cuda::cut(call.cuda, static_cast<char*>(call.cuda.workspace) + shift_)),
        tiles_(cuda::tiles_of(call.cuda.keys)) {}

  float q(int64_t head, int64_t row, int c) const { return code(space_.q, head, row, c); }
  float k(int64_t head, int64_t row, int c) const { return code(space_.k, head, row, c); }
  float v(int64_t head, int64_t row, int c) const {
    const auto key = static_cast<int>(row % cuda::kTile);
    int place = 0;
    while (key / 32 * 32 + cuda::key_at(place % 32) != key || place / 32 != key / 32) ++place;
    const uint8_t* tile = space_.v + (head * tiles_ + row / cuda::kTile) * cuda::kValueNbytes;
    return common::e4m3_decode(tile[cuda::place_in_tile(c, place)]);
  }
  float q_scale(int64_t head, int64_t row) const {
    return space_.q_scales[head * tiles_ * cuda::kTile + row];
  }
  float k_scale(int64_t head, int64_t tile) const { return space_.k_scales[head * tiles_ + tile]; }
  float v_scale(int64_t head, int c) const { return space_.v_scales[head * cuda::kTile + c]; }

 private:
  float code(const uint8_t* all, int64_t head, int64_t row, int c) const {
    const uint8_t* tile = all + (head * tiles_ + row / cuda::kTile) * cuda::kTileNbytes;
    const auto r = static_cast<int>(row % cuda::kTile);
    return common::e4m3_decode(tile[cuda::place_in_tile(r, c)]);
  }

  at::Tensor bytes_;
  std::ptrdiff_t shift_;
  cuda::Workspace space_;
  int64_t tiles_;
};

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

class Fp8AttentionCodes : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    const auto found = device::properties(0);
    if (!found.ok()) GTEST_SKIP() << found.error().text();
    if (found->sm != 90) GTEST_SKIP() << "found sm" << found->sm << ", expected sm90";
    const Status status = set_up_cuda(0);
    ASSERT_TRUE(status.ok()) << status.error().text();
  }
  /// Values of `found(row, channel)` against the host's.
  template <typename Found>
  static int64_t differing(const Codes& host, const Found& found) {
    int64_t count = 0;
    for (int64_t r = 0; r < host.rows.rows; ++r) {
      for (int c = 0; c < host.rows.dim; ++c) {
        count += bits(found(r, c)) != bits(host.values[static_cast<size_t>(r * host.rows.dim + c)]);
      }
    }
    return count;
  }
  static void expect_hosts_bits(const AttentionCall& call);

  const at::NoGradGuard no_gradients_;
};

void Fp8AttentionCodes::expect_hosts_bits(const AttentionCall& call) {
  const KernelCall kernel = kernel_call(call);
  ASSERT_EQ(cuda::prepare(kernel.cuda, cuda::cut(kernel.cuda, kernel.cuda.workspace), nullptr),
            cudaSuccess);
  const Prepared gpu(kernel);
  const auto signs = rotation_signs(call.q.size(3));
  for (int64_t head = 0; head < call.q.size(1); ++head) {
    const auto host = [&](const at::Tensor& x) {
      return x[0][head].to(at::kCPU, at::kFloat).contiguous();
    };
    const at::Tensor q_rows = host(call.q), k_rows = host(call.k), v_rows = host(call.v);
    Codes q(q_rows), k(k_rows), v(v_rows);
    prepare_q(q.rows, signs, q.values.data(), q.scales.data());
    prepare_k(k.rows, signs, k.values.data(), k.scales.data());
    prepare_v(v.rows, v.values.data(), v.scales.data());
    EXPECT_EQ(differing(q, [&](int64_t r, int c) { return gpu.q(head, r, c); }), 0);
    EXPECT_EQ(differing(k, [&](int64_t r, int c) { return gpu.k(head, r, c); }), 0);
    EXPECT_EQ(differing(v, [&](int64_t r, int c) { return gpu.v(head, r, c); }), 0);
    for (int64_t r = 0; r < q.rows.rows; ++r) {
      const float scale = q.scales[static_cast<size_t>(r)] * kernel.cuda.scale;
      EXPECT_EQ(bits(gpu.q_scale(head, r)), bits(scale)) << "row " << r;
    }
    for (int64_t b = 0; b < key_blocks(k.rows.rows); ++b) {
      EXPECT_EQ(bits(gpu.k_scale(head, b)), bits(k.scales[static_cast<size_t>(b)])) << "tile " << b;
    }
    for (int c = 0; c < v.rows.dim; ++c) {
      EXPECT_EQ(bits(gpu.v_scale(head, c)), bits(v.scales[static_cast<size_t>(c)])) << "of " << c;
    }
  }
}

TEST_P(Fp8AttentionCodes, AreTheHosts) {
  const Shape& s = GetParam();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    // Wide scales, tiny values beside large ones, and zeros of both signs.
    for (const double spread : {1e-3, 1.0, 200.0}) {
      const auto random = [&] {
        at::Tensor x = at::randn({1, s.heads, s.rows, s.dim}).mul(spread);
        x.mul_(at::randn({1, s.heads, 1, s.dim}).exp());
        x.select(2, s.rows / 2).mul_(0.0);
        return x.to(kGpu, type);
      };
      expect_hosts_bits({.q = random(), .k = random(), .v = random(), .scale = 0.125, .fp8 = true});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Fp8AttentionCodes,
                         ::testing::Values(Shape{1, 1, 16}, Shape{2, 127, 32}, Shape{2, 128, 64},
                                           Shape{3, 300, 128}, Shape{1, 1100, 128}));

}  // namespace
}  // namespace loadstone::runtime::fp8_attention
