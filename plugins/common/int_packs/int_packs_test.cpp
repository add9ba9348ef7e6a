#include "common/int_packs/int_packs.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/codecs/half.hpp"
#include "common/int_packs/stream.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::int_packs {
namespace {

using common::Cpu;
using common::testing::levels;
using common::testing::Random;
using common::testing::same_float;

TEST(IntPacksStream, ValuesAreADenseLittleEndianBitStream) {
  // 0,1,2,…: three bits each, so value 10 lies in bits 30..32 and straddles the words.
  uint32_t words[3] = {};
  for (uint64_t i = 0; i < 32; ++i) {
    for (uint64_t b = 0; b < 3; ++b) {
      const uint64_t bit = 3 * i + b;
      words[bit / 32] |= static_cast<uint32_t>((i & 7) >> b & 1) << bit % 32;
    }
  }
  for (uint64_t i = 0; i < 32; ++i) EXPECT_EQ(stream_value(words, 1, i, 3), i & 7) << i;
}

TEST(IntPacksStream, WordsPerValue) {
  EXPECT_EQ(stream_words(32, 3), 3u);
  EXPECT_EQ(stream_words(33, 3), 4u);
  EXPECT_EQ(stream_words(0, 5), 0u);
}

/// A matrix with random content that it owns.
struct Made {
  Matrix matrix;
  std::vector<uint32_t> qweight, qzeros;
  std::vector<uint16_t> half;
  std::vector<float> scales;
  std::vector<int32_t> g_idx;

  Made(Packing packing, uint32_t bits, uint64_t n, uint64_t k, uint64_t group_size,
       uint32_t scale_dtype, bool shuffled) {
    Random random(static_cast<uint32_t>(bits * 31 + n + k + group_size));
    matrix.packing = packing;
    matrix.bits = bits;
    matrix.zero_bias = random.bits() >> 7 & 1;
    matrix.scale_dtype = scale_dtype;
    matrix.n = n;
    matrix.k = k;
    matrix.group_size = group_size;
    matrix.groups = (k + group_size - 1) / group_size;
    qweight.resize(n * k * bits / 32);
    qzeros.resize(matrix.groups * n * bits / 32);
    for (uint32_t& word : qweight) word = random.bits();
    for (uint32_t& word : qzeros) word = random.bits();
    for (uint64_t i = 0; i < matrix.groups * n; ++i) {
      scales.push_back(random.uniform() * 0.1f);  // both signs
      half.push_back(scale_dtype == LS_DTYPE_BF16 ? common::bf16_encode(scales.back())
                                                  : common::f16_encode(scales.back()));
    }
    for (uint64_t i = 0; shuffled && i < k; ++i) {
      g_idx.push_back(static_cast<int32_t>(random.bits() % matrix.groups));
    }
    matrix.qweight = qweight.data();
    matrix.qzeros = qzeros.data();
    matrix.scales = scale_dtype == LS_DTYPE_F32 ? static_cast<const void*>(scales.data())
                                                : static_cast<const void*>(half.data());
    if (shuffled) matrix.g_idx = g_idx.data();
  }
};

template <typename Body>
void for_each_shape(const Body& body) {
  for (const Packing packing : {Packing::gptq, Packing::awq}) {
    for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
      if (packing == Packing::awq && bits != 4) continue;
      for (const uint64_t group : {32u, 128u, 192u, 20u}) {  // 128: the last is short
        for (const uint32_t dtype : {LS_DTYPE_F16, LS_DTYPE_BF16, LS_DTYPE_F32}) {
          for (const bool shuffled : {false, true}) {
            SCOPED_TRACE(std::to_string(bits) + " bits, group " + std::to_string(group));
            body(Made(packing, bits, 64, 192, group, dtype, shuffled).matrix);
          }
        }
      }
    }
  }
}

TEST(IntPacks, EveryLevelDequantizesToTheScalarTwinsBits) {
  for_each_shape([](const Matrix& matrix) {
    std::vector<float> wanted(matrix.n * matrix.k), found(wanted.size());
    dequantize(matrix, 0, matrix.n, wanted.data(), Cpu::scalar);
    for (const Cpu cpu : levels()) {
      dequantize(matrix, 0, matrix.n, found.data(), cpu);
      for (size_t i = 0; i < wanted.size(); ++i) ASSERT_TRUE(same_float(found[i], wanted[i])) << i;
    }
  });
}

TEST(IntPacks, RowRangesOfAnyStartAndLengthAreTheWholesRows) {
  const Made made(Packing::gptq, 3, 64, 96, 32, LS_DTYPE_F16, false);
  std::vector<float> whole(64 * 96);
  dequantize(made.matrix, 0, 64, whole.data(), Cpu::scalar);
  for (const Cpu cpu : levels()) {
    for (const uint64_t begin : {0u, 1u, 7u, 8u, 13u, 63u}) {
      for (uint64_t count = 0; begin + count <= 64; count += 5) {
        std::vector<float> part(count * 96 + 1, 77.0f);
        dequantize(made.matrix, begin, count, part.data(), cpu);
        ASSERT_EQ(std::memcmp(part.data(), whole.data() + begin * 96, count * 96 * 4), 0)
            << begin << " + " << count;
        ASSERT_EQ(part.back(), 77.0f);
      }
    }
  }
}

void expect_products_within_the_bound(const Matrix& matrix) {
  Random random(9);
  std::vector<float> x(matrix.k), weight(matrix.n * matrix.k), y(matrix.n);
  for (float& value : x) value = random.uniform();
  dequantize(matrix, 0, matrix.n, weight.data(), Cpu::scalar);
  for (const Cpu cpu : levels()) {
    multiply(matrix, 0, matrix.n, x.data(), y.data(), cpu);
    for (uint64_t n = 0; n < matrix.n; ++n) {
      double sum = 0, magnitude = 0;
      for (uint64_t k = 0; k < matrix.k; ++k) {
        const double term = static_cast<double>(x[k]) * weight[n * matrix.k + k];
        sum += term;
        magnitude += std::abs(term);
      }
      ASSERT_LE(std::abs(y[n] - sum), static_cast<double>(matrix.k + 8) * 0x1p-24 * magnitude) << n;
    }
  }
}

TEST(IntPacks, MultiplyStaysWithinTheFloat32Bound) {
  for_each_shape(expect_products_within_the_bound);
}

TEST(IntPacks, MultiplyOfManyRowsStaysWithinTheFloat32Bound) {
  for (const Packing packing : {Packing::gptq, Packing::awq}) {
    for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
      if (packing == Packing::awq && bits != 4) continue;
      for (const uint64_t n : {128u, 416u}) {  // whole tiles; and what is left of them
        for (const bool one_zero : {false, true}) {
          for (const bool shuffled : {false, true}) {
            SCOPED_TRACE(std::to_string(bits) + " bits, " + std::to_string(n) + " rows");
            Made made(packing, bits, n, 160, 64, LS_DTYPE_BF16, shuffled);
            if (one_zero) std::fill(made.qzeros.begin(), made.qzeros.end(), 0xffffffffu);
            expect_products_within_the_bound(made.matrix);
          }
        }
      }
    }
  }
}

TEST(IntPacks, ProductsOfARangeAreTheWholesProducts) {
  for (const Packing packing : {Packing::gptq, Packing::awq}) {
    const Made made(packing, 4, 288, 64, 32, LS_DTYPE_F16, false);
    std::vector<float> x(64, 0.25f), whole(288);
    for (const Cpu cpu : levels()) {
      multiply(made.matrix, 0, 288, x.data(), whole.data(), cpu);
      for (uint64_t begin = 0; begin < 288; begin += 8) {
        for (uint64_t count = 0; begin + count <= 288; count += 40) {
          std::vector<float> part(count + 1, 77.0f);
          multiply(made.matrix, begin, count, x.data(), part.data(), cpu);
          for (uint64_t i = 0; i < count; ++i) ASSERT_NEAR(part[i], whole[begin + i], 1e-5);
          ASSERT_EQ(part.back(), 77.0f);
        }
      }
    }
  }
}

TEST(IntPacks, AwqNibblesHoldColumns02461357) {
  Made made(Packing::awq, 4, 32, 32, 32, LS_DTYPE_F16, false);
  for (uint32_t& word : made.qweight) word = 0x76543210;
  const uint32_t column_of_nibble[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  for (uint32_t p = 0; p < 8; ++p) EXPECT_EQ(code_at(made.matrix, 5, 8 + column_of_nibble[p]), p);
}

TEST(IntPacks, ZeroBiasIsAddedAfterUnpacking) {
  Made made(Packing::gptq, 4, 32, 32, 32, LS_DTYPE_F16, false);
  for (uint32_t& word : made.qzeros) word = 0xffffffff;
  made.matrix.zero_bias = 1;
  EXPECT_EQ(zero_at(made.matrix, 0, 3), 16u);  // not wrapped to 0
  for (uint32_t& word : made.qzeros) word = 0;
  EXPECT_EQ(zero_at(made.matrix, 0, 3), 1u);
}

}  // namespace
}  // namespace loadstone::int_packs
