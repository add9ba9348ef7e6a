// Products on tensor cores against the plain units' (rows_product, which has no shape to fit).
#include <algorithm>
#include <cmath>

#include "common/codecs/half.hpp"
#include "common/cuda/code_tiles.hpp"
#include "common/cuda/lt.hpp"
#include "common/cuda/rows_product.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Random;

constexpr uint32_t kDtypes[] = {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16};

/// Codes, scales and a bias, on the GPU; of e4m3 all are numbers.
struct Operands {
  uint64_t m, n, k;
  Memory x, w, x_scale, w_scale, bias;

  Operands(uint64_t rows, uint64_t columns, uint64_t depth, uint32_t bias_dtype,
           uint8_t bits_kept = 0xff)
      : m(rows), n(columns), k(depth) {
    Random random(static_cast<uint32_t>(m * 7 + n * 3 + k));
    const auto codes = [&](uint64_t count) {
      std::vector<uint8_t> out(count);
      for (uint8_t& one : out) one = static_cast<uint8_t>(random.bits() >> 9) & bits_kept;
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

cuda::CodeTiles tiles_of(const Operands& from, uint32_t dtype, uint32_t y_dtype,
                         uint32_t bias_dtype, bool biased) {
  cuda::CodeTiles tiles{};
  tiles.dtype = dtype;
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
  tiles.y_stride = from.n + 16;
  return tiles;
}

/// The same on plain units.
void plain(const cuda::CodeTiles& tiles, void* y) {
  cuda::RowsProduct rows{};
  rows.x_dtype = rows.w_dtype = tiles.dtype;
  rows.y_dtype = tiles.y_dtype;
  rows.bias_dtype = tiles.bias_dtype;
  rows.m = tiles.m;
  rows.n = tiles.n;
  rows.k = rows.group = tiles.k;
  rows.w_groups = 1;
  rows.y_stride = tiles.y_stride;
  rows.x = tiles.x;
  rows.w = tiles.w;
  rows.x_scale = tiles.x_scale;
  rows.w_scale = tiles.w_scale;
  rows.bias = tiles.bias;
  rows.y = y;
  check(cuda::rows_product(rows));
}

void expect_same(const Operands& from, uint32_t y_dtype, uint32_t bias_dtype, bool biased) {
  const uint64_t item = common::float_nbytes(y_dtype), y_stride = from.n + 16;
  const std::vector<uint8_t> before(from.m * y_stride * item, 0x5a);
  const Memory found(before), wanted(before);
  cuda::CodeTiles tiles = tiles_of(from, LS_DTYPE_I8, y_dtype, bias_dtype, biased);
  tiles.y = found.at();
  check(cuda::code_tiles(tiles));
  plain(tiles, wanted.at());
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

std::vector<float> floats_of(const Memory& y, uint32_t dtype) {
  const auto bytes = y.back<char>();
  std::vector<float> out(bytes.size() / common::float_nbytes(dtype));
  common::widen(dtype, bytes.data(), out.data(), out.size());
  return out;
}

/// The largest error of `found` (rows of y_stride) beside a row's largest sum of magnitudes.
float worst(const std::vector<float>& found, uint64_t y_stride, const std::vector<float>& wanted,
            const std::vector<float>& sums, uint64_t m, uint64_t n, float step) {
  float out = 0;
  for (uint64_t i = 0; i < m; ++i) {
    const float most = *std::max_element(&sums[i * n], &sums[i * n] + n);
    for (uint64_t j = 0; j < n; ++j) {
      const float want = wanted[i * n + j];
      const float error = std::abs(found[i * y_stride + j] - want) - step * std::abs(want);
      out = error > out * most || std::isnan(error) ? error / most : out;
    }
  }
  return out;
}

/// Sums of the tensor core's sums of 128 products, within 1.1e-3 of a row's largest sum of
/// magnitudes (numeric-definitions, section 12), or no further than cublasLt without fast
/// accumulation. One-signed codes say that sum, and must hold it too.
void expect_close(uint64_t m, uint64_t n, uint64_t k, uint32_t y_dtype, uint8_t bits_kept) {
  const Operands from(m, n, k, y_dtype, bits_kept);
  const Operands positive(m, n, k, y_dtype, bits_kept & 0x7f);
  const Memory wanted(m * n * 4), most(m * n * 4), lt(m * n * 4), room(cuda::LtProduct::kWorkspace);
  const auto call = [&](const Operands& of, uint32_t dtype, bool biased) {
    cuda::CodeTiles out = tiles_of(of, LS_DTYPE_F8_E4M3, dtype, y_dtype, biased);
    out.y_stride = n;
    return out;
  };
  cuda::CodeTiles tiles = call(from, LS_DTYPE_F32, false);
  plain(tiles, wanted.at());
  plain(call(positive, LS_DTYPE_F32, false), most.at());
  cuda::LtShape shape;
  shape.x_dtype = shape.w_dtype = LS_DTYPE_F8_E4M3;
  shape.y_dtype = LS_DTYPE_F32;
  shape.scaling = cuda::Scaling::rows;
  shape.m = m;
  shape.n = shape.y_ld = n;
  shape.k = shape.x_ld = shape.w_ld = k;
  float bound = 1.1e-3f;
  if (cuda::LtProduct::current().can(shape)) {
    cuda::LtProduct::current().run(shape, {tiles.x, tiles.w, tiles.x_scale, tiles.w_scale, nullptr,
                                           lt.at(), room.at(), nullptr});
    check(cudaDeviceSynchronize());
    bound = std::max(bound, 1.2f * worst(lt.back<float>(), n, wanted.back<float>(),
                                         most.back<float>(), m, n, 0));
  }
  tiles = call(from, y_dtype, true);
  tiles.y_stride = n + 16;
  const Memory rows(std::vector<uint8_t>(m * tiles.y_stride * 4, 0));
  tiles.y = rows.at();
  check(cuda::code_tiles(tiles));
  plain(call(from, LS_DTYPE_F32, true), wanted.at());
  check(cudaDeviceSynchronize());
  const auto made = floats_of(rows, y_dtype);
  EXPECT_LE(worst(made, tiles.y_stride, wanted.back<float>(), most.back<float>(), m, n,
                  y_dtype == LS_DTYPE_F32 ? 0x1p-22f : 0x1p-8f),
            bound);
  for (uint64_t i = 0; i < m; ++i) {
    for (uint64_t j = n; j < n + 16; ++j) ASSERT_EQ(made[i * (n + 16) + j], 0.0f) << "row " << i;
  }
}

TEST(KernelProducts, Fp8TilesAreThePlainUnitsWithinTheirSums) {
  NEED_GPU();
  if (this_sm() != 90) GTEST_SKIP() << "sm" << this_sm() << " has no such kernel";
  constexpr uint64_t kShapes[][3] = {{128, 256, 128}, {1, 8, 16},        {129, 264, 144},
                                     {700, 520, 656}, {300, 1536, 3072}, {4352, 2056, 1040}};
  for (const auto& [m, n, k] : kShapes) {
    for (const uint32_t dtype : kDtypes) {
      // 0xb7: magnitudes up to 3.75; 0x37 of one sign.
      for (const uint8_t bits : {uint8_t{0xb7}, uint8_t{0x37}}) {
        SCOPED_TRACE(std::to_string(m) + " " + std::to_string(n) + " " + std::to_string(k) +
                     " dtype " + std::to_string(dtype) + " bits " + std::to_string(bits));
        expect_close(m, n, k, dtype, bits);
        if (HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::gpu_kernels
