// Kernels against the scalar twins of the plugins: every byte.
#include <cmath>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/half.hpp"
#include "common/cuda/decode.hpp"
#include "common/cuda/mx.hpp"
#include "common/cuda/quantize.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/fp8.hpp"
#include "common/numerics/int8.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Random;
using common::testing::same_float;

constexpr uint32_t kDtypes[] = {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16};

/// Rows of many kinds: any magnitude, one outlier, zeros, -0, ties, tiny, not finite.
struct Rows {
  uint64_t m, k, stride;
  uint32_t dtype;
  std::vector<char> bytes;    // as the kernel reads them
  std::vector<float> values;  // the same widened, dense

  Rows(uint32_t type, uint64_t rows, uint64_t columns, uint64_t padding, bool all_finite)
      : m(rows), k(columns), stride(columns + padding), dtype(type) {
    Random random(static_cast<uint32_t>(rows * 31 + columns));
    std::vector<float> all(m * stride, 7.0f);
    for (uint64_t i = 0; i < m; ++i) {
      const float scale = std::ldexp(1.0f, static_cast<int>(i % 7) * 3 - 9);
      for (uint64_t j = 0; j < k; ++j) {
        float& x = all[i * stride + j];
        x = random.uniform() * scale;
        if (i % 8 == 1) x = 0.0f * random.uniform();
        if (i % 8 == 2) x = std::ldexp(static_cast<float>(random.bits() % 65) - 32.0f, -4);
        if (i % 8 == 3) x *= 1e-7f;
      }
      if (i % 8 == 4) all[i * stride + k / 2] = 6e4f;
      if (i % 8 == 5 && !all_finite)
        all[i * stride + k - 1] = std::numeric_limits<float>::infinity();
      if (i % 8 == 6 && !all_finite) all[i * stride] = std::nanf("");
    }
    bytes.resize(all.size() * common::float_nbytes(dtype));
    common::narrow(dtype, all.data(), bytes.data(), all.size());
    common::widen(dtype, bytes.data(), all.data(), all.size());
    for (uint64_t i = 0; i < m; ++i) {
      values.insert(values.end(), &all[i * stride], &all[i * stride] + k);
    }
  }
  const float* row(uint64_t i) const { return &values[i * k]; }
};

/// body(rows) for shapes that take every kernel: packs in registers, two reads, odd widths.
template <typename Body>
void for_each_rows(bool all_finite, const Body& body) {
  for (const uint32_t dtype : kDtypes) {
    for (const uint64_t k : {1, 31, 256, 257, 1024, 3072, 5120, 12288, 13824, 16384, 20000}) {
      for (const uint64_t padding : {0, 8, 3}) {
        SCOPED_TRACE("dtype " + std::to_string(dtype) + " k " + std::to_string(k) + " padding " +
                     std::to_string(padding));
        body(Rows(dtype, 17, k, padding, all_finite));
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

Quantized on_device(cuda::RowRule rule, const Rows& rows, const Memory& given) {
  const Memory x(rows.bytes), codes(rows.m * rows.k), scales(rows.m * sizeof(float));
  check(cuda::quantize_rows(rule,
                            {rows.dtype, x.at(), rows.m, rows.k, rows.stride, codes.at<uint8_t>(),
                             scales.at<float>(), given.at<float>(), nullptr}));
  check(cudaDeviceSynchronize());
  return {codes.back<uint8_t>(), scales.back<float>()};
}

/// Rows whose scale is NaN have any codes.
void expect_row(const Quantized& found, const Rows& rows, uint64_t i, float scale,
                const uint8_t* codes) {
  ASSERT_TRUE(same_float(found.scales[i], scale)) << "scale of row " << i;
  for (uint64_t j = 0; scale == scale && j < rows.k; ++j) {
    ASSERT_EQ(int{found.codes[i * rows.k + j]}, int{codes[j]})
        << "row " << i << " column " << j << " x " << rows.row(i)[j];
  }
}

TEST(KernelNumerics, Fp8RowsAreTheTwins) {
  NEED_GPU();
  for_each_rows(false, [](const Rows& rows) {
    const Quantized found = on_device(cuda::RowRule::fp8_row, rows, Memory());
    std::vector<uint8_t> codes(rows.k);
    for (uint64_t i = 0; i < rows.m; ++i) {
      const bool finite = common::is_finite(common::max_magnitude(rows.row(i), rows.k));
      const float scale = common::fp8_quantize_row(rows.row(i), codes.data(), rows.k);
      expect_row(found, rows, i, finite ? scale : std::nanf(""), codes.data());
    }
  });
}

TEST(KernelNumerics, Fp8TensorsAreTheTwins) {
  NEED_GPU();
  for (const bool finite : {true, false}) {
    for_each_rows(finite, [](const Rows& rows) {
      const Memory x(rows.bytes), amax(sizeof(float));
      check(cuda::tensor_amax(
          {rows.dtype, x.at(), rows.m, rows.k, rows.stride, nullptr, nullptr, nullptr, nullptr},
          amax.at<float>()));
      const float top = common::max_magnitude(rows.values.data(), rows.values.size());
      ASSERT_TRUE(same_float(amax.back<float>()[0], top));
      const Quantized found = on_device(cuda::RowRule::fp8_tensor, rows, amax);
      std::vector<uint8_t> codes(rows.k);
      const float scale = common::is_finite(top) ? common::fp8_tensor_scale(top) : std::nanf("");
      for (uint64_t i = 0; i < rows.m; ++i) {
        common::fp8_quantize_tensor(rows.row(i), scale, top, codes.data(), rows.k);
        expect_row(found, rows, i, scale, codes.data());
      }
    });
  }
}

TEST(KernelNumerics, AllZeroTensorHasScaleOneAndCodesZero) {
  NEED_GPU();
  Rows rows(LS_DTYPE_BF16, 3, 64, 0, true);
  std::fill(rows.bytes.begin(), rows.bytes.end(), char(0));
  rows.bytes[1] = char(0x80);  // a -0
  const Memory amax(std::vector<float>{0.0f});
  const Quantized found = on_device(cuda::RowRule::fp8_tensor, rows, amax);
  for (const uint8_t code : found.codes) EXPECT_EQ(int{code}, 0);
  for (const float scale : found.scales) EXPECT_EQ(scale, 1.0f);
}

TEST(KernelNumerics, Fp8FixedScalesAreTheTwins) {
  NEED_GPU();
  for (const float given : {0.01f, 3.7e-4f, 1e-39f}) {
    const Memory scale(std::vector<float>{given});
    for_each_rows(false, [&](const Rows& rows) {
      const Quantized found = on_device(cuda::RowRule::fp8_fixed, rows, scale);
      std::vector<float> values(rows.k);
      std::vector<uint8_t> codes(rows.k);
      for (uint64_t i = 0; i < rows.m; ++i) {
        const float own = common::fp8_fixed_row(rows.row(i), given, values.data(), rows.k);
        common::e4m3_encode(values.data(), codes.data(), rows.k);
        expect_row(found, rows, i, own, codes.data());
      }
    });
  }
}

TEST(KernelNumerics, Int8RowsAreTheTwins) {
  NEED_GPU();
  for_each_rows(false, [](const Rows& rows) {
    const Quantized found = on_device(cuda::RowRule::int8_row, rows, Memory());
    std::vector<int8_t> codes(rows.k);
    for (uint64_t i = 0; i < rows.m; ++i) {
      const float scale = common::int8_quantize_row(rows.row(i), codes.data(), rows.k);
      expect_row(found, rows, i, scale, reinterpret_cast<const uint8_t*>(codes.data()));
    }
  });
}

TEST(KernelNumerics, Fp8GroupsAreTheTwins) {
  NEED_GPU();
  for (const uint32_t dtype : kDtypes) {
    for (const uint64_t group : {32, 128}) {
      const Rows rows(dtype, 17, 1280, 8, false);
      const uint64_t groups = rows.k / group;
      const Memory x(rows.bytes), codes(rows.m * rows.k), scales(rows.m * groups * sizeof(float));
      check(cuda::quantize_groups({rows.dtype, x.at(), rows.m, rows.k, rows.stride,
                                   codes.at<uint8_t>(), scales.at<float>(), nullptr, nullptr},
                                  group));
      const auto found = codes.back<uint8_t>();
      const auto found_scales = scales.back<float>();
      std::vector<float> values(rows.k), wanted(groups);
      std::vector<uint8_t> wanted_codes(rows.k);
      for (uint64_t i = 0; i < rows.m; ++i) {
        common::fp8_groups(rows.row(i), group, values.data(), wanted.data(), rows.k);
        common::e4m3_encode(values.data(), wanted_codes.data(), rows.k);
        for (uint64_t j = 0; j < rows.k; ++j) {
          const float scale = wanted[j / group];
          ASSERT_TRUE(same_float(found_scales[j / group * rows.m + i], scale));
          if (scale == scale) {
            ASSERT_EQ(int{found[i * rows.k + j]}, int{wanted_codes[j]}) << i << " " << j;
          }
        }
      }
    }
  }
}

TEST(KernelNumerics, MxRowsAreTheTwins) {
  NEED_GPU();
  using common::MxElement;
  using common::MxRule;
  const std::pair<MxRule, MxElement> kinds[] = {{MxRule::ocp, MxElement::e4m3},
                                                {MxRule::rceil, MxElement::e4m3},
                                                {MxRule::ocp, MxElement::e2m1},
                                                {MxRule::uos, MxElement::e2m1}};
  for (const auto& [rule, element] : kinds) {
    for_each_rows(false, [&](const Rows& rows) {
      const Memory x(rows.bytes), values(rows.m * rows.k * 2);
      check(cuda::mx_round_rows({rule, element, rows.dtype, x.at(), nullptr, rows.m, rows.k,
                                 rows.stride, values.at(), nullptr}));
      check(cudaDeviceSynchronize());
      const auto found = values.back<uint16_t>();
      std::vector<uint8_t> codes(rows.k), scales(common::mx_groups(rows.k));
      std::vector<float> wanted(rows.k);
      for (uint64_t i = 0; i < rows.m; ++i) {
        common::mx_quantize(rule, element, rows.row(i), codes.data(), scales.data(), rows.k);
        common::mx_dequantize(element, codes.data(), scales.data(), wanted.data(), rows.k);
        for (uint64_t j = 0; j < rows.k; ++j) {
          const float value = common::bf16_decode(found[i * rows.k + j]);
          ASSERT_TRUE(same_float(value, wanted[j])) << i << " " << j << " " << rows.row(i)[j];
        }
      }
    });
  }
}

TEST(KernelNumerics, SmoothedMxRowsRoundTheProductToTheInputsDtype) {
  NEED_GPU();
  for (const uint32_t dtype : kDtypes) {
    const Rows rows(dtype, 9, 320, 0, true);
    Random random(5);
    std::vector<float> mul(rows.k);
    for (float& one : mul) one = 1.0f + 0.9f * random.uniform();
    const Memory x(rows.bytes), values(rows.m * rows.k * 2), factors(mul);
    check(cuda::mx_round_rows({common::MxRule::ocp, common::MxElement::e2m1, dtype, x.at(),
                               factors.at<float>(), rows.m, rows.k, rows.stride, values.at(),
                               nullptr}));
    check(cudaDeviceSynchronize());
    const auto found = values.back<uint16_t>();
    const auto rounded = [&](float value) {
      uint32_t room = 0;
      common::narrow(dtype, &value, &room, 1);
      common::widen(dtype, &room, &value, 1);
      return value;
    };
    std::vector<uint8_t> codes(rows.k), scales(common::mx_groups(rows.k));
    std::vector<float> smooth(rows.k), wanted(rows.k);
    for (uint64_t i = 0; i < rows.m; ++i) {
      for (uint64_t j = 0; j < rows.k; ++j) smooth[j] = rounded(rows.row(i)[j] * rounded(mul[j]));
      common::mx_quantize(common::MxRule::ocp, common::MxElement::e2m1, smooth.data(), codes.data(),
                          scales.data(), rows.k);
      common::mx_dequantize(common::MxElement::e2m1, codes.data(), scales.data(), wanted.data(),
                            rows.k);
      for (uint64_t j = 0; j < rows.k; ++j) {
        ASSERT_TRUE(same_float(common::bf16_decode(found[i * rows.k + j]), wanted[j])) << i << j;
      }
    }
  }
}

TEST(KernelNumerics, EveryBf16ValueHasTheTwinsCode) {
  NEED_GPU();
  Rows rows(LS_DTYPE_BF16, 1, 65536, 0, true);
  auto* bits = reinterpret_cast<uint16_t*>(rows.bytes.data());
  for (uint32_t i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i);
  const Memory one(std::vector<float>{1.0f});
  const Quantized found = on_device(cuda::RowRule::fp8_fixed, rows, one);
  for (uint32_t i = 0; i < 65536; ++i) {
    const float value = common::bf16_decode(static_cast<uint16_t>(i));
    const int mask = value == value ? 0xff : 0x7f;  // of NaN, not the sign
    ASSERT_EQ(found.codes[i] & mask, common::e4m3_encode(value) & mask) << i;
  }
}

float scale_of(const cuda::CodedMatrix& w, const std::vector<float>& scales,
               const std::vector<uint8_t>& bytes, uint64_t row, uint64_t column) {
  const uint64_t at = w.map.scale_row(row) * w.scale_columns + column / w.scale_width;
  if (w.scale_kind == cuda::ScaleKind::f32) return scales[at];
  return std::ldexp(1.0f, static_cast<int>(bytes[at]) - 127);
}

float value_of(cuda::CodeKind kind, const uint8_t* row, uint64_t column) {
  switch (kind) {
    case cuda::CodeKind::e4m3:
      return common::e4m3_decode(row[column]);
    case cuda::CodeKind::e5m2: {
      const uint16_t half = static_cast<uint16_t>(row[column] << 8);
      return common::f16_decode(half);
    }
    case cuda::CodeKind::int8:
      return static_cast<float>(static_cast<int8_t>(row[column]));
    default:
      return common::e2m1_decode(row[column / 2] >> (column % 2 * 4) & 15);
  }
}

TEST(KernelNumerics, WeightsDecodeToTheTwinsValues) {
  NEED_GPU();
  Random random(11);
  for (const auto kind :
       {cuda::CodeKind::e4m3, cuda::CodeKind::e5m2, cuda::CodeKind::int8, cuda::CodeKind::e2m1}) {
    for (const uint64_t k : {46, 160, 3072}) {
      for (const int layout : {0, 1, 2, 3}) {  // rows, parts, blocks, groups of 32
        SCOPED_TRACE(std::to_string(static_cast<int>(kind)) + " k " + std::to_string(k) +
                     " layout " + std::to_string(layout));
        cuda::CodedMatrix w;
        w.kind = kind;
        w.n = 70;
        w.k = k;
        w.scale_width = layout == 2 ? 16 : layout == 3 ? 32 : k;
        w.scale_columns = (k + w.scale_width - 1) / w.scale_width;
        if (layout == 3) w.scale_kind = cuda::ScaleKind::e8m0;
        w.map = cuda::ScaleMap::rows(w.n);
        if (layout == 1 || layout == 2) {
          w.map.count = 2;
          w.map.height = layout == 1 ? uint32_t{cuda::ScaleMap::kWhole} : 8;
          w.map.runs[0] = {0, 30, layout == 1 ? 0u : 5u, 0};
          w.map.runs[1] = {30, 70, 0, layout == 1 ? 1 : 5};
        }
        std::vector<float> scales(w.n * w.scale_columns);
        std::vector<uint8_t> bytes(scales.size()), codes(w.n * w.row_nbytes());
        for (float& one : scales) one = 0.01f + std::abs(random.uniform());
        for (uint8_t& one : bytes) one = static_cast<uint8_t>(110 + random.bits() % 30);
        for (uint8_t& one : codes) one = static_cast<uint8_t>(random.bits() >> 8);
        const Memory device_codes(codes), device_scales(scales), device_bytes(bytes);
        w.codes = device_codes.at<uint8_t>();
        w.scales = layout == 3 ? device_bytes.at() : device_scales.at();
        for (const uint32_t dtype : kDtypes) {
          const Memory out(w.n * k * common::float_nbytes(dtype));
          check(cuda::decode_rows(w, 0, w.n, out.at(), dtype, nullptr));
          check(cudaDeviceSynchronize());
          const auto raw = out.back<char>();
          std::vector<float> found(w.n * k), wanted(w.n * k);
          common::widen(dtype, raw.data(), found.data(), found.size());
          for (uint64_t i = 0; i < wanted.size(); ++i) {
            wanted[i] = value_of(kind, &codes[i / k * w.row_nbytes()], i % k) *
                        scale_of(w, scales, bytes, i / k, i % k);
          }
          std::vector<char> room(raw.size());
          common::narrow(dtype, wanted.data(), room.data(), wanted.size());
          common::widen(dtype, room.data(), wanted.data(), wanted.size());
          for (uint64_t i = 0; i < wanted.size(); ++i) {
            ASSERT_TRUE(same_float(found[i], wanted[i])) << i / k << " " << i % k;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::gpu_kernels
