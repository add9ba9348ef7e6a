#include "common/ggml/multiply.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/ggml/check.hpp"
#include "common/ggml/dequantize.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::ggml {
namespace {

TEST(GgmlMultiply, StaysWithinTheFloat32Bound) {
  common::testing::Random random(3);
  for (uint32_t id = 0; id < kTypeEnd; ++id) {
    const TypeInfo* info = find_type(id);
    if (info == nullptr || !info->decodes) continue;
    const uint64_t rows = 3, in = info->elems == 1 ? 1100 : 1024 + 3 * info->elems;
    std::vector<uint8_t> blocks(rows * in / info->elems * info->nbytes);
    for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(random.bits() >> 9);
    for (size_t at = 0; at < blocks.size(); at += info->nbytes) {
      while (first_bad_scale(info->type, &blocks[at], 1) == 0) {
        for (uint32_t i = 0; i < info->nbytes; ++i) {
          blocks[at + i] = static_cast<uint8_t>(random.bits() >> 9);
        }
      }
    }
    std::vector<float> weight(rows * in), x(kMaxMultiplyRows * in);
    dequantizer(info->type)(blocks.data(), rows * in / info->elems, weight.data());
    for (float& value : x) value = random.uniform();
    for (const common::Cpu cpu : common::testing::levels()) {
      for (uint64_t m = 1; m <= kMaxMultiplyRows; ++m) {
        std::vector<float> y(m * 5, 77.0f);
        multiply(info->type, blocks.data(), rows, in, x.data(), m, y.data(), 5, cpu);
        for (uint64_t i = 0; i < m; ++i) {
          for (uint64_t r = 0; r < rows; ++r) {
            double sum = 0, magnitude = 0;
            for (uint64_t k = 0; k < in; ++k) {
              const double term = static_cast<double>(x[i * in + k]) * weight[r * in + k];
              sum += term;
              magnitude += std::abs(term);
            }
            if (!(magnitude < 1e37)) continue;  // float32 sums overflow
            ASSERT_LE(std::abs(y[i * 5 + r] - sum),
                      static_cast<double>(in + 8) * 0x1p-24 * magnitude)
                << info->name;
          }
          ASSERT_EQ(y[i * 5 + rows], 77.0f);
        }
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::ggml
