#include "plugin/gemm.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <loadstone/plugin/floats.hpp>
#include <random>

namespace loadstone::plugin {
namespace {

struct Shape {
  uint64_t m, n, k;
};

const Shape kShapes[] = {{1, 1, 1},   {1, 70, 33},  {3, 5, 7},      {4, 4, 16},    {5, 129, 257},
                         {17, 64, 8}, {2, 3, 4100}, {9, 130, 2048}, {64, 200, 300}};

/// The product of one dtype against double, within the float32 bound of any order of summing.
class GemmTest : public ::testing::Test {
 protected:
  void TearDown() override { unsetenv("LOADSTONE_CPU"); }

  void check(const Shape& shape, uint32_t dtype, ThreadPool* pool) {
    std::normal_distribution<float> normal;
    std::vector<float> x(shape.m * shape.k), w(shape.n * shape.k), y(shape.m * shape.n, NAN);
    for (float& value : x) value = normal(random_);
    for (float& value : w) value = normal(random_);
    const auto x_bytes = as(dtype, x), w_bytes = as(dtype, w);
    ls_gemm call{};
    call.struct_size = sizeof call;
    call.dtype = dtype;
    call.place = LS_PLACE_HOST;
    call.m = shape.m;
    call.n = shape.n;
    call.k = shape.k;
    call.x = x_bytes.data();
    call.w = w_bytes.data();
    call.y = y.data();
    const Status status = product(call, pool);
    ASSERT_TRUE(status.ok()) << status.error().text();
    for (uint64_t i = 0; i < shape.m; ++i) {
      for (uint64_t j = 0; j < shape.n; ++j) {
        double sum = 0, magnitude = 0;
        for (uint64_t c = 0; c < shape.k; ++c) {
          const double term = double{x[i * shape.k + c]} * double{w[j * shape.k + c]};
          sum += term;
          magnitude += std::fabs(term);
        }
        ASSERT_NEAR(double{y[i * shape.n + j]}, sum,
                    (static_cast<double>(shape.k) + 8) * 0x1p-24 * magnitude)
            << shape.m << "x" << shape.n << "x" << shape.k << " at " << i << "," << j;
      }
    }
  }

  /// Bytes of the dtype; `values` become what they hold.
  static std::vector<uint8_t> as(uint32_t dtype, std::vector<float>& values) {
    std::vector<uint8_t> out;
    if (dtype == LS_DTYPE_F8_E4M3) {
      for (float& value : values) {  // 1.m × 2^(e-7) of a random sign, exponents 3 to 10
        const auto code = static_cast<uint8_t>(std::bit_cast<uint32_t>(value) >> 13);
        const auto safe = static_cast<uint8_t>((code & 0x87) | ((3 + ((code >> 3) & 7)) << 3));
        out.push_back(safe);
        const float magnitude =
            std::ldexp(1.0f + static_cast<float>(safe & 7) / 8, ((safe >> 3) & 15) - 7);
        value = (safe & 0x80) != 0 ? -magnitude : magnitude;
      }
      return out;
    }
    out.resize(values.size() * sdk::float_nbytes(dtype));
    sdk::narrow(dtype, values.data(), values.size(), out.data());
    sdk::widen(dtype, out.data(), values.size(), values.data());
    return out;
  }

  std::mt19937 random_{7};
};

TEST_F(GemmTest, EveryKernelAndDtypeKeepsTheFloat32Bound) {
  for (const detail::Kernel& kernel : detail::kernels()) {
    setenv("LOADSTONE_CPU", kernel.name, 1);
    for (const Shape& shape : kShapes) {
      for (const uint32_t dtype : {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16, LS_DTYPE_F8_E4M3}) {
        SCOPED_TRACE(kernel.name);
        check(shape, dtype, nullptr);
      }
    }
  }
}

TEST_F(GemmTest, ThreadsGiveTheSameBound) {
  ThreadPool pool(3);
  check({33, 300, 500}, LS_DTYPE_F32, &pool);
}

TEST_F(GemmTest, IntegersAreExactAtTheExtremes) {
  for (const detail::Kernel& kernel : detail::kernels()) {
    setenv("LOADSTONE_CPU", kernel.name, 1);
    for (const uint64_t k : {uint64_t{1}, uint64_t{33}, uint64_t{140001}}) {
      const std::vector<int8_t> x(2 * k, -128), w(3 * k, -128);
      std::vector<float> y(6);
      ls_gemm call{};
      call.struct_size = sizeof call;
      call.dtype = LS_DTYPE_I8;
      call.place = LS_PLACE_HOST;
      call.m = 2;
      call.n = 3;
      call.k = k;
      call.x = x.data();
      call.w = w.data();
      call.y = y.data();
      ASSERT_TRUE(product(call, nullptr).ok());
      for (const float value : y) EXPECT_EQ(value, static_cast<float>(k * 16384)) << kernel.name;
    }
  }
}

TEST_F(GemmTest, ScalesMultiplyInTheStatedOrder) {
  const int8_t x[] = {1, 2, 3, 4}, w[] = {5, 6, -7, 8};
  const float x_scale[] = {0.1f, 0.3f}, w_scale[] = {0.7f, 0.9f};
  float y[4];
  ls_gemm call{};
  call.struct_size = sizeof call;
  call.dtype = LS_DTYPE_I8;
  call.place = LS_PLACE_HOST;
  call.m = call.n = call.k = 2;
  call.x = x;
  call.w = w;
  call.y = y;
  call.x_scale = x_scale;
  call.w_scale = w_scale;
  call.x_per_row = call.w_per_row = 1;
  ASSERT_TRUE(product(call, nullptr).ok());
  EXPECT_EQ(y[0], 0.1f * (0.7f * 17.0f));
  EXPECT_EQ(y[3], 0.3f * (0.9f * 11.0f));
  call.x_per_row = call.w_per_row = 0;
  ASSERT_TRUE(product(call, nullptr).ok());
  EXPECT_EQ(y[3], 0.1f * (0.7f * 11.0f));
}

TEST_F(GemmTest, RefusesWhatItCannotMultiply) {
  float y = 0;
  ls_gemm call{};
  call.dtype = LS_DTYPE_F64;
  call.place = LS_PLACE_HOST;
  EXPECT_EQ(product(call, nullptr).error().text(),
            "product rejected: found dtype 13 on place 1, expected F32, BF16, F16, F8_E4M3 or I8 "
            "on the host");
  call.dtype = LS_DTYPE_F32;
  EXPECT_EQ(product(call, nullptr).error().text(), "product rejected: found a null pointer");
  call.x = call.w = call.y = &y;
  setenv("LOADSTONE_CPU", "sse9", 1);
  EXPECT_EQ(product(call, nullptr).error().text(),
            "kernel not available: LOADSTONE_CPU: found \"sse9\", expected scalar, avx2, avx512 "
            "or avx512vnni as this processor has");
}

}  // namespace
}  // namespace loadstone::plugin
