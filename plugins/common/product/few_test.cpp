// Sums of a few rows against float64 or int64 sums, on every level of this machine.
#include "common/product/few.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/half.hpp"
#include "common/product/coded_product.hpp"
#include "common/product/int8_product.hpp"
#include "common/product/nibbles.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

std::vector<Cpu> levels() {
  std::vector<Cpu> out = {Cpu::scalar};
  if (best_cpu() != Cpu::scalar) out.push_back(Cpu::avx2);
  if (best_cpu() == Cpu::avx512) out.push_back(Cpu::avx512);
  return out;
}

constexpr uint64_t kWidths[] = {1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 96, 127, 250, 1024, 3072};

double bound_of(double magnitudes, uint64_t k) {
  return magnitudes * static_cast<double>(k + 8) * 0x1p-24;
}

TEST(FewRows, Bf16SumsStayWithinTheBound) {
  for (const uint64_t k : kWidths) {
    testing::Random random(static_cast<uint32_t>(k));
    std::vector<float> x(k);
    std::vector<uint16_t> w(k);
    double exact = 0, magnitudes = 0;
    for (uint64_t i = 0; i < k; ++i) {
      x[i] = random.uniform();
      w[i] = bf16_encode(random.uniform());
      exact += double{x[i]} * bf16_decode(w[i]);
      magnitudes += std::abs(double{x[i]} * bf16_decode(w[i]));
    }
    for (const Cpu cpu : levels()) {
      EXPECT_NEAR(dot_bf16(w.data(), x.data(), k, cpu), exact, bound_of(magnitudes, k)) << k;
    }
  }
}

TEST(FewRows, FloatSumsStayWithinTheBound) {
  for (const uint64_t k : kWidths) {
    testing::Random random(static_cast<uint32_t>(k));
    std::vector<float> x(k), w(k);
    double exact = 0, magnitudes = 0;
    for (uint64_t i = 0; i < k; ++i) {
      x[i] = random.uniform();
      w[i] = random.uniform();
      exact += double{x[i]} * w[i];
      magnitudes += std::abs(double{x[i]} * w[i]);
    }
    for (const Cpu cpu : levels()) {
      EXPECT_NEAR(dot_f32(w.data(), x.data(), k, cpu), exact, bound_of(magnitudes, k)) << k;
    }
  }
}

TEST(FewRows, NibbleSumsStayWithinTheBound) {
  for (const uint64_t group : {uint64_t{32}, uint64_t{96}, uint64_t{1} << 20}) {
    for (const uint64_t k : kWidths) {
      testing::Random random(static_cast<uint32_t>(k + group));
      const uint64_t groups = (k + group - 1) / group;
      std::vector<float> x(k), scales(groups), zeros(groups);
      std::vector<uint8_t> packed((k + 1) / 2);
      for (float& v : x) v = random.uniform();
      for (float& s : scales) s = random.uniform() * 0.01f;  // both signs
      for (float& z : zeros) z = static_cast<float>(random.bits() % 17);
      for (uint8_t& byte : packed) byte = static_cast<uint8_t>(random.bits());
      double exact = 0, magnitudes = 0;
      for (uint64_t i = 0; i < k; ++i) {
        const auto code = static_cast<float>(packed[i / 2] >> 4 * (i % 2) & 15);
        const double product = double{(code - zeros[i / group]) * scales[i / group]} * x[i];
        exact += product;
        magnitudes += std::abs(product);
      }
      for (const Cpu cpu : levels()) {
        EXPECT_NEAR(
            dot_nibbles(packed.data(), scales.data(), zeros.data(), group, x.data(), k, cpu), exact,
            bound_of(magnitudes, k))
            << k << " in groups of " << group;
      }
    }
  }
}

TEST(FewRows, Int8SumsAreExactAtTheExtremes) {
  for (const uint64_t k : {uint64_t{33}, uint64_t{4100}, Int8Product::kMaxColumns}) {
    const std::vector<int8_t> low(k, -128), high(k, 127);
    for (const Cpu cpu : levels()) {
      EXPECT_EQ(dot_int8(low.data(), low.data(), k, cpu), static_cast<int32_t>(k * 128 * 128));
      EXPECT_EQ(dot_int8(low.data(), high.data(), k, cpu), -static_cast<int32_t>(k * 128 * 127));
    }
  }
}

TEST(FewRows, Int8SumsAreExact) {
  for (const uint64_t k : kWidths) {
    testing::Random random(static_cast<uint32_t>(k));
    std::vector<int8_t> x(k), w(k);
    int64_t exact = 0;
    for (uint64_t i = 0; i < k; ++i) {
      x[i] = static_cast<int8_t>(random.bits());
      w[i] = static_cast<int8_t>(random.bits());
      exact += int64_t{x[i]} * w[i];
    }
    for (const Cpu cpu : levels()) EXPECT_EQ(dot_int8(w.data(), x.data(), k, cpu), exact) << k;
  }
}

TEST(FewRows, GroupedBf16SumsStayWithinTheBound) {
  for (const uint64_t k : kWidths) {
    testing::Random random(static_cast<uint32_t>(k));
    std::vector<float> x(k), scales((k + 31) / 32);
    std::vector<uint16_t> w(k);
    for (float& s : scales) s = std::ldexp(1.0f, -static_cast<int>(random.bits() % 12));
    double exact = 0, magnitudes = 0;
    for (uint64_t i = 0; i < k; ++i) {
      x[i] = random.uniform();
      w[i] = bf16_encode(random.uniform());
      const double product = double{x[i]} * bf16_decode(w[i]) * scales[i / 32];
      exact += product;
      magnitudes += std::abs(product);
    }
    for (const Cpu cpu : levels()) {
      EXPECT_NEAR(dot_bf16_groups(w.data(), scales.data(), x.data(), k, cpu), exact,
                  bound_of(magnitudes, k))
          << k;
    }
  }
}

TEST(FewRows, E2m1SumsStayWithinTheBound) {
  for (const uint64_t group : {16, 32}) {
    for (const uint64_t half : kWidths) {
      const uint64_t k = 2 * half;
      testing::Random random(static_cast<uint32_t>(k + group));
      std::vector<float> x(k), scales((k + group - 1) / group);
      std::vector<uint8_t> codes(k), packed(half);
      for (float& v : x) v = random.uniform();
      for (float& s : scales) s = std::ldexp(1.0f, -static_cast<int>(random.bits() % 12));
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random.bits() & 15u);
      e2m1_pack(codes.data(), packed.data(), k);
      double exact = 0, magnitudes = 0;
      for (uint64_t i = 0; i < k; ++i) {
        const double product = double{x[i]} * e2m1_decode(codes[i]) * scales[i / group];
        exact += product;
        magnitudes += std::abs(product);
      }
      for (const Cpu cpu : levels()) {
        EXPECT_NEAR(dot_e2m1(packed.data(), scales.data(), group, x.data(), k, cpu), exact,
                    bound_of(magnitudes, k))
            << k << " in groups of " << group;
      }
    }
  }
}

// Experts share one workspace and activation, sized for all rows: a smaller call must fit.
TEST(FewRows, BuffersGrowWithTheRows) {
  for (const CodedShape shape : {CodedShape{100, 1000, 0}, CodedShape{7, 33, 32}}) {
    const CodedProduct product(shape);
    const Int8Product integers({shape.n, shape.k});
    for (uint64_t m = 2; m < 70; ++m) {
      EXPECT_GE(product.activation_nbytes(m), product.activation_nbytes(m - 1)) << m;
      EXPECT_GE(integers.activation_nbytes(m), integers.activation_nbytes(m - 1)) << m;
      EXPECT_GE(product.workspace_nbytes(m), product.workspace_nbytes(m - 1)) << m;
      EXPECT_GE(integers.workspace_nbytes(m), integers.workspace_nbytes(m - 1)) << m;
    }
  }
}

}  // namespace
}  // namespace loadstone::common
