// Exact on every path: equal bits to an int64 sum and the stated epilogue.
#include "common/product/int8_product.hpp"

#include <gtest/gtest.h>

#include "common/numerics/floats.hpp"
#include "common/numerics/int8.hpp"
#include "common/testing/driver.hpp"

namespace loadstone::common {
namespace {

struct Case {
  uint64_t m, n, k;
  bool extreme = false;  // codes of -128 and 127 only: what saturating instructions lose
  bool constants = false, decoded = false;
};

void expect_exact(const Case& c, const packed::Unit* unit) {
  const Int8Product product({c.n, c.k}, unit);
  SCOPED_TRACE(std::string(product.path()) + " " + std::to_string(c.m) + "x" + std::to_string(c.n) +
               "x" + std::to_string(c.k));
  testing::Random random(static_cast<uint32_t>(c.m + 3 * c.n + 7 * c.k));
  std::vector<int8_t> w(c.n * c.k), x(c.m * c.k);
  for (int8_t& code : w) {
    code = static_cast<int8_t>(c.extreme ? (random.bits() % 8 == 0 ? 127 : -128) : random.bits());
  }
  for (int8_t& code : x) {
    code = static_cast<int8_t>(c.extreme ? -128 : random.bits());
  }
  std::vector<float> scales(c.n), bias(c.n), floats(c.m * c.k), y(c.m * c.n, -1.0f);
  for (float& s : scales) s = random.uniform();
  for (float& b : bias) b = random.uniform();
  for (size_t i = 0; i < x.size(); ++i) floats[i] = x[i];
  testing::Block activation(product.activation_nbytes(c.m));
  testing::Block workspace(product.workspace_nbytes(c.m));
  ls_apply call = sdk::make<ls_apply>();
  call.x_dtype = call.y_dtype = call.bias_dtype = LS_DTYPE_F32;
  call.m = c.m;
  call.x_stride = c.k;
  call.y_stride = c.n;
  call.x = floats.data();
  call.y = y.data();
  call.bias = bias.data();
  call.workspace = workspace.at();
  product.prepare(
      call,
      [&](const float* row, int8_t* codes) {
        for (uint64_t i = 0; i < c.k; ++i) codes[i] = static_cast<int8_t>(row[i]);
        return 0.37f;
      },
      activation.at());
  std::vector<int32_t> constants(c.n, 0);
  for (int32_t& one : constants) one = c.constants ? static_cast<int32_t>(random.bits()) / 4 : 0;
  Int8Weight weight{w.data(), scales.data()};
  if (c.constants) weight.constants = constants.data();
  if (c.decoded) {
    weight.codes = nullptr;
    weight.decode = [&](uint64_t row, uint64_t begin, uint64_t count, int8_t* out) {
      std::copy_n(w.data() + row * c.k + begin, count, out);
    };
  }
  product.apply(call, weight, activation.at());
  EXPECT_TRUE(activation.intact() && workspace.intact());
  for (uint64_t i = 0; i < c.m; ++i) {
    for (uint64_t j = 0; j < c.n; ++j) {
      int64_t sum = constants[j];
      for (uint64_t k = 0; k < c.k; ++k) sum += int64_t{x[i * c.k + k]} * w[j * c.k + k];
      const float inner = scales[j] * static_cast<float>(static_cast<int32_t>(sum));
      const float outer = 0.37f * inner;
      ASSERT_EQ(testing::to_bits(y[i * c.n + j]), testing::to_bits(outer + bias[j]))
          << i << ", " << j;
    }
  }
}

TEST(Int8Product, IsExactOnEveryPath) {
  testing::use_host();
  std::vector<const packed::Unit*> paths = packed::int8_units();
  paths.push_back(nullptr);
  const Case cases[] = {{1, 1, 1},
                        {1, 16, 64},
                        {7, 34, 257},
                        {33, 65, 100},
                        {17, 160, 1024},
                        {3, 33, 1025},
                        {2, 40, 4096},
                        {5, 700, 64},
                        {4, 33, 5000, true},
                        {1, 33, 64, true},
                        {2, 2100, 48},
                        {1, 1, 1, false, true},
                        {33, 65, 100, false, true, true},
                        {2, 40, 4096, false, true},
                        {3, 33, 1025, false, false, true},
                        {2, 2100, 48, false, true, true},
                        {4, 33, 5000, true, true, true}};
  for (const Case& c : cases) {
    for (const packed::Unit* unit : paths) expect_exact(c, unit);
  }
}

}  // namespace
}  // namespace loadstone::common
