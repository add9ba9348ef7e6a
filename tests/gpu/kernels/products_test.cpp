// Products on tensor cores against the plain units' (rows_product, which has no shape to fit).
#include "common/codecs/half.hpp"
#include "common/cuda/int8_tiles.hpp"
#include "common/cuda/rows_product.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Random;

constexpr uint32_t kDtypes[] = {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16};

/// Codes of int8, scales and a bias, on the GPU.
struct Operands {
  uint64_t m, n, k;
  Memory x, w, x_scale, w_scale, bias;

  Operands(uint64_t rows, uint64_t columns, uint64_t depth, uint32_t bias_dtype)
      : m(rows), n(columns), k(depth) {
    Random random(static_cast<uint32_t>(m * 7 + n * 3 + k));
    const auto codes = [&](uint64_t count) {
      std::vector<uint8_t> out(count);
      for (uint8_t& one : out) one = static_cast<uint8_t>(random.bits() >> 9);
      return Memory(out);
    };
    const auto floats = [&](uint64_t count, float least) {
      std::vector<float> out(count);
      for (float& one : out) one = least + 0.01f * random.uniform();
      return out;
    };
    x = codes(m * k);
    w = codes(n * k);
    x_scale = Memory(floats(m, 0.02f));
    w_scale = Memory(floats(n, 0.02f));
    const auto values = floats(n, 0);
    std::vector<char> narrowed(n * common::float_nbytes(bias_dtype));
    common::narrow(bias_dtype, values.data(), narrowed.data(), n);
    bias = Memory(narrowed);
  }
};

void expect_same(const Operands& from, uint32_t y_dtype, uint32_t bias_dtype, bool biased) {
  const uint64_t item = common::float_nbytes(y_dtype), y_stride = from.n + 16;
  const std::vector<uint8_t> before(from.m * y_stride * item, 0x5a);
  const Memory found(before), wanted(before);
  cuda::Int8Tiles tiles{};
  tiles.x = from.x.at();
  tiles.w = from.w.at();
  tiles.x_scale = from.x_scale.at<float>();
  tiles.w_scale = from.w_scale.at<float>();
  tiles.bias = biased ? from.bias.at() : nullptr;
  tiles.bias_dtype = bias_dtype;
  tiles.y_dtype = y_dtype;
  tiles.m = from.m;
  tiles.n = from.n;
  tiles.k = from.k;
  tiles.y_stride = y_stride;
  tiles.y = found.at();
  check(cuda::int8_tiles(tiles));
  cuda::RowsProduct rows{};
  rows.x_dtype = rows.w_dtype = LS_DTYPE_I8;
  rows.y_dtype = y_dtype;
  rows.bias_dtype = bias_dtype;
  rows.m = from.m;
  rows.n = from.n;
  rows.k = rows.group = from.k;
  rows.w_groups = 1;
  rows.y_stride = y_stride;
  rows.x = tiles.x;
  rows.w = tiles.w;
  rows.x_scale = tiles.x_scale;
  rows.w_scale = tiles.w_scale;
  rows.bias = tiles.bias;
  rows.y = wanted.at();
  check(cuda::rows_product(rows));
  check(cudaDeviceSynchronize());
  const auto a = found.back<uint8_t>(), b = wanted.back<uint8_t>();
  const bool same = a == b;
  for (size_t i = 0; !same && i < a.size(); ++i) {
    ASSERT_EQ(a[i], b[i]) << "row " << i / item / y_stride << " column " << i / item % y_stride;
  }
}

/// Rests of tiles in every direction, one step, fewer steps than stages, more tiles than clusters.
TEST(KernelProducts, Int8TilesAreThePlainUnits) {
  NEED_GPU();
  if (this_sm() != 90) GTEST_SKIP() << "sm" << this_sm() << " has no such kernel";
  constexpr uint64_t kShapes[][3] = {{128, 256, 128},    {1, 8, 16},      {129, 264, 144},
                                     {300, 1536, 3072},  {700, 520, 656}, {4096, 3072, 512},
                                     {4352, 12296, 1040}};
  for (const auto& [m, n, k] : kShapes) {
    for (const uint32_t dtype : kDtypes) {
      SCOPED_TRACE(std::to_string(m) + " " + std::to_string(n) + " " + std::to_string(k) +
                   " dtype " + std::to_string(dtype));
      const Operands from(m, n, k, dtype);
      expect_same(from, dtype, dtype, true);
      if (m < 4096) {
        expect_same(from, LS_DTYPE_BF16, dtype, true);
        expect_same(from, dtype, dtype, false);
      }
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace loadstone::gpu_kernels
