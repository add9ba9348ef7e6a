// The product against float64 sums of the dequantized factors, on every path of this machine.
#include "common/product/coded_product.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/codecs/half.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/testing/host.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

struct Case {
  uint64_t m, n, k, group;
  uint32_t x_dtype = LS_DTYPE_F32, y_dtype = LS_DTYPE_F32;
  bool bias = true;
};

/// A problem with its quantized factors and the product of them in float64.
class Problem {
 public:
  explicit Problem(const Case& c)
      : c_(c), shape_{c.n, c.k, c.group}, x_(c.m * (c.k + 3)), w_(c.n * c.k), bias_(c.n) {
    testing::Random random(static_cast<uint32_t>(c.m * 31 + c.n * 7 + c.k));
    for (float& v : x_) v = random.uniform() * 3.0f;
    for (float& v : bias_) v = random.uniform();
    w_scales_.resize(c.n * shape_.groups());
    for (uint64_t j = 0; j < c.n; ++j) {
      std::vector<float> row(c.k);
      for (float& v : row) v = random.uniform();
      quantize(row.data(), &w_[j * c.k], &w_scales_[j * shape_.groups()]);
    }
    x_stored_.resize(x_.size() * 4);
    narrow(c.x_dtype, x_.data(), x_stored_.data(), x_.size());
    widen(c.x_dtype, x_stored_.data(), x_.data(), x_.size());
  }

  /// max |y - reference| over the bound of each row; at most 1 when right.
  double worst(const packed::Unit* unit, uint64_t begin, uint64_t count) {
    const CodedProduct product(shape_, unit);
    const uint64_t y_stride = c_.n + 5;
    std::vector<char> y(c_.m * y_stride * 4, 0x11);
    std::vector<char> activation = aligned(product.activation_nbytes(c_.m));
    std::vector<char> workspace = aligned(product.workspace_nbytes(c_.m));
    ls_apply call = sdk::make<ls_apply>();
    call.x_dtype = c_.x_dtype;
    call.y_dtype = c_.y_dtype;
    call.m = c_.m;
    call.x_stride = c_.k + 3;
    call.y_stride = y_stride;
    call.x = x_stored_.data();
    call.y = y.data();
    call.bias = c_.bias ? bias_.data() : nullptr;
    call.bias_dtype = LS_DTYPE_F32;
    call.workspace = at64(workspace);
    product.prepare(
        call,
        [&](uint64_t, const float* x, float*, float* values, float* scales) {
          quantize(x, values, scales);
        },
        at64(activation));
    std::vector<uint16_t> halves(w_.size());
    bf16_encode(w_.data(), halves.data(), w_.size());
    const CodedWeight weight{[&](uint64_t row, uint16_t* out) {
                               std::memcpy(out, &halves[row * c_.k], c_.k * sizeof(uint16_t));
                             },
                             [&](uint64_t row) { return &w_scales_[row * shape_.groups()]; }};
    product.apply(call, weight, begin, count, at64(activation));
    EXPECT_TRUE(untouched(activation) && untouched(workspace)) << "written past a buffer's end";
    return compare(y, y_stride, begin, count);
  }

 private:
  static constexpr size_t kGuard = 128;

  static std::vector<char> aligned(uint64_t nbytes) {
    return std::vector<char>(nbytes + 64 + kGuard, 0x5a);
  }
  static char* at64(std::vector<char>& bytes) {
    const auto address = reinterpret_cast<uintptr_t>(bytes.data());
    return bytes.data() + (64 - address % 64) % 64;
  }
  static bool untouched(const std::vector<char>& bytes) {
    for (size_t i = bytes.size() - 64; i < bytes.size(); ++i) {
      if (bytes[i] != 0x5a) return false;
    }
    return true;
  }

  void quantize(const float* x, float* values, float* scales) const {
    if (c_.group == 0) {
      scales[0] = fp8_token(x, nullptr, values, c_.k);
    } else {
      fp8_groups(x, c_.group, values, scales, c_.k);
    }
  }

  double compare(const std::vector<char>& y, uint64_t y_stride, uint64_t begin, uint64_t count) {
    const size_t item = float_nbytes(c_.y_dtype);
    double worst = 0;
    std::vector<float> line(y_stride), values(c_.k), scales(shape_.groups());
    for (uint64_t i = 0; i < c_.m; ++i) {
      quantize(&x_[i * (c_.k + 3)], values.data(), scales.data());
      widen(c_.y_dtype, &y[i * y_stride * item], line.data(), y_stride);
      std::vector<double> exact(count);
      double sums = 0;
      for (uint64_t j = 0; j < count; ++j) {
        double sum = c_.bias ? bias_[begin + j] : 0, magnitude = std::abs(sum);
        for (uint64_t k = 0; k < c_.k; ++k) {
          const uint64_t g = c_.group == 0 ? 0 : k / c_.group;
          const double product =
              static_cast<double>(values[k] * scales[g]) *
              (w_[(begin + j) * c_.k + k] * w_scales_[(begin + j) * shape_.groups() + g]);
          sum += product;
          magnitude += std::abs(product);
        }
        exact[j] = sum;
        sums = std::max(sums, magnitude);
      }
      const double rounding = c_.y_dtype == LS_DTYPE_F32    ? 0
                              : c_.y_dtype == LS_DTYPE_BF16 ? 0x1p-8
                                                            : 0x1p-11;
      for (uint64_t j = 0; j < count; ++j) {
        const double bound =
            static_cast<double>(c_.k + 8) * 0x1p-24 * sums + 1e-30 + rounding * std::abs(exact[j]);
        worst = std::max(worst, std::abs(line[begin + j] - exact[j]) / bound);
        if (std::isnan(line[begin + j])) worst = INFINITY;
      }
      const char* first = &y[(i * y_stride + begin + count) * item];
      EXPECT_TRUE(first == y.data() + y.size() || *first == 0x11) << "wrote past its columns";
      EXPECT_TRUE(begin == 0 || y[(i * y_stride + begin) * item - 1] == 0x11);
    }
    return worst;
  }

  Case c_;
  CodedShape shape_;
  std::vector<float> x_, w_, bias_, w_scales_;
  std::vector<char> x_stored_;
};

/// The host's product (null) and every unit of this machine.
std::vector<const packed::Unit*> paths() {
  std::vector<const packed::Unit*> out = packed::bf16_units();
  out.push_back(nullptr);
  return out;
}

TEST(CodedProduct, StaysWithinTheBoundForAwkwardShapes) {
  testing::use_host();
  const Case cases[] = {
      {1, 1, 1, 0},
      {1, 16, 32, 0},
      {7, 34, 257, 0},
      {16, 32, 32, 0},
      {17, 33, 33, 0},
      {33, 65, 100, 0},
      {48, 160, 256, 0},
      {5, 31, 48, 0},
      {40, 130, 512, 0},
      {3, 40, 256, 128},
      {33, 70, 640, 128},
      {2, 17, 96, 32},
      {20, 48, 100, 32},
      {1, 300, 64, 0},
      {70, 600, 31, 0},
      {9, 50, 128, 0, LS_DTYPE_BF16, LS_DTYPE_BF16},
      {9, 50, 128, 64, LS_DTYPE_F16, LS_DTYPE_F16},
      {9, 50, 128, 0, LS_DTYPE_BF16, LS_DTYPE_F32, false},
  };
  for (const Case& c : cases) {
    Problem problem(c);
    for (const packed::Unit* unit : paths()) {
      EXPECT_LE(problem.worst(unit, 0, c.n), 1.0)
          << c.m << "x" << c.n << "x" << c.k << " groups of " << c.group << " on "
          << CodedProduct({1, 1, 0}, unit).path();
    }
  }
}

TEST(CodedProduct, WritesOnlyTheRowsAskedFor) {
  testing::use_host();
  for (const packed::Unit* unit : paths()) {
    Problem problem({19, 90, 70, 0});
    EXPECT_LE(problem.worst(unit, 13, 41), 1.0);
    EXPECT_LE(problem.worst(unit, 89, 1), 1.0);
  }
}

TEST(CodedProduct, LargeLayersAreCutIntoBlocks) {
  testing::use_host();
  for (const packed::Unit* unit : paths()) {
    Problem problem({2, 1300, 2048, 0});
    EXPECT_LE(problem.worst(unit, 0, 1300), 1.0);
  }
}

}  // namespace
}  // namespace loadstone::common
