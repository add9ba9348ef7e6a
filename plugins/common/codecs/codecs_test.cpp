// Codecs against independent definitions: decoders against the formulas of the formats, encoders
// against nearest-value search over the decoded tables, kernels of every level against the scalar
// twins, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/codecs/e5m2.hpp"
#include "common/codecs/e8m0.hpp"
#include "common/codecs/half.hpp"
#include "common/testing/oracle.hpp"

namespace loadstone::common {
namespace {

using testing::from_bits;
using testing::levels;
using testing::same_float;
using testing::to_bits;

/// A format as its table of decoded magnitudes, ascending; the index is the code.
struct Format {
  const char* name;
  std::vector<double> magnitudes;  // finite ones
  int sign_bit;
  int nan_code;  // -1: none
  std::function<uint32_t(float)> encode;
  std::function<float(uint32_t)> decode;
};

std::vector<double> magnitudes_of(int mantissa, int bias, int count) {
  std::vector<double> out;
  for (int code = 0; code < count; ++code) {
    const int e = code >> mantissa;
    const double m = code & ((1 << mantissa) - 1);
    const double unit = std::ldexp(1.0, -mantissa);
    out.push_back(e == 0 ? std::ldexp(m * unit, 1 - bias) : std::ldexp(1 + m * unit, e - bias));
  }
  return out;
}

std::vector<Format> formats() {
  return {
      {"e4m3", magnitudes_of(3, 7, 127), 7, 0x7f, [](float x) { return e4m3_encode(x); },
       [](uint32_t c) { return e4m3_decode(static_cast<uint8_t>(c)); }},
      {"e5m2", magnitudes_of(2, 15, 124), 7, 0x7f, [](float x) { return e5m2_encode(x); },
       [](uint32_t c) { return e5m2_decode(static_cast<uint8_t>(c)); }},
      {"e2m1", magnitudes_of(1, 1, 8), 3, -1, [](float x) { return e2m1_encode(x); },
       [](uint32_t c) { return e2m1_decode(static_cast<uint8_t>(c)); }},
  };
}

TEST(Codecs, TablesStartAndEndAsTheFormatsSay) {
  const auto all = formats();
  EXPECT_EQ(all[0].magnitudes.back(), 448.0);
  EXPECT_EQ(all[1].magnitudes.back(), 57344.0);
  EXPECT_EQ(all[2].magnitudes, (std::vector<double>{0, 0.5, 1, 1.5, 2, 3, 4, 6}));
  EXPECT_EQ(all[0].magnitudes[1], 0x1p-9);
  EXPECT_EQ(all[1].magnitudes[1], 0x1p-16);
}

TEST(Codecs, DecodesEveryCodeByItsFormula) {
  for (const Format& f : formats()) {
    const uint32_t sign = 1u << f.sign_bit;
    for (uint32_t code = 0; code < f.magnitudes.size(); ++code) {
      EXPECT_EQ(f.decode(code), f.magnitudes[code]) << f.name << " " << code;
      EXPECT_EQ(to_bits(f.decode(code | sign)), to_bits(f.decode(code)) | 0x80000000u) << f.name;
    }
  }
  for (const uint8_t code : {0x7f, 0xff}) EXPECT_TRUE(std::isnan(e4m3_decode(code)));
  EXPECT_TRUE(std::isnan(e5m2_decode(0x7d)) && std::isnan(e5m2_decode(0xff)));
  EXPECT_EQ(e5m2_decode(0x7c), INFINITY);
  EXPECT_EQ(e5m2_decode(0xfc), -INFINITY);
}

/// Nearest magnitude, ties to the even code.
uint32_t nearest(const Format& f, double a) {
  uint32_t best = 0;
  for (uint32_t code = 1; code < f.magnitudes.size(); ++code) {
    const double now = std::abs(f.magnitudes[code] - a);
    const double then = std::abs(f.magnitudes[best] - a);
    if (now < then || (now == then && code % 2 == 0)) best = code;
  }
  return best;
}

void expect_nearest(const Format& f, float x) {
  const uint32_t sign = 1u << f.sign_bit;
  EXPECT_EQ(f.encode(x), nearest(f, x)) << f.name << " of " << x;
  EXPECT_EQ(f.encode(-x), nearest(f, x) | sign) << f.name << " of " << -x;
}

TEST(Codecs, EncodesEveryValueEveryMidpointAndTheirNeighbours) {
  for (const Format& f : formats()) {
    for (size_t code = 0; code + 1 < f.magnitudes.size(); ++code) {
      const auto value = static_cast<float>(f.magnitudes[code]);
      const auto middle = static_cast<float>((f.magnitudes[code] + f.magnitudes[code + 1]) / 2);
      for (const float x : {value, middle}) {
        expect_nearest(f, x);
        expect_nearest(f, std::nextafter(x, INFINITY));
        if (x > 0) expect_nearest(f, std::nextafter(x, 0.0f));
      }
    }
  }
}

TEST(Codecs, EncodesRandomFloatsToTheNearestValue) {
  testing::Random random(7);
  for (const Format& f : formats()) {
    const auto top = static_cast<float>(f.magnitudes.back());
    for (int i = 0; i < 20000; ++i) {
      const float x = std::abs(random.uniform()) * std::ldexp(top, -static_cast<int>(i % 12));
      expect_nearest(f, x);
    }
  }
}

TEST(Codecs, SaturatesAboveTheLargestValue) {
  for (const Format& f : formats()) {
    const uint32_t top = static_cast<uint32_t>(f.magnitudes.size()) - 1;
    const auto value = static_cast<float>(f.magnitudes.back());
    for (const float x : {value, std::nextafter(value, INFINITY), value * 1.1f, 1e30f,
                          std::numeric_limits<float>::max(), INFINITY}) {
      EXPECT_EQ(f.encode(x), top) << f.name << " " << x;
      EXPECT_EQ(f.encode(-x), top | 1u << f.sign_bit) << f.name << " " << x;
    }
  }
}

TEST(Codecs, KeepsNanWithItsSignAndFlushesTinyValuesToSignedZero) {
  for (const Format& f : formats()) {
    const uint32_t sign = 1u << f.sign_bit;
    for (const uint32_t tiny : {0x00000000u, 0x00000001u, 0x007fffffu, 0x00800000u}) {
      EXPECT_EQ(f.encode(from_bits(tiny)), 0u) << f.name;
      EXPECT_EQ(f.encode(from_bits(tiny | 0x80000000u)), sign) << f.name;
    }
    if (f.nan_code < 0) continue;
    for (const uint32_t nan : {0x7f800001u, 0x7fc00000u, 0x7fffffffu}) {
      EXPECT_EQ(f.encode(from_bits(nan)), static_cast<uint32_t>(f.nan_code)) << f.name;
      EXPECT_EQ(f.encode(from_bits(nan | 0x80000000u)), f.nan_code | sign) << f.name;
    }
  }
}

TEST(Codecs, RoundToTheGridEqualsEncodeAndDecode) {
  testing::Random random(3);
  for (int i = 0; i < 200000; ++i) {
    const float x = from_bits(random.bits());
    EXPECT_TRUE(same_float(e4m3_round(x), e4m3_decode(e4m3_encode(x)))) << x;
    if (x == x) {
      EXPECT_TRUE(same_float(e2m1_round(x), e2m1_decode(e2m1_encode(x)))) << x;
    }
  }
  for (int i = 0; i < 200000; ++i) {
    const float x = random.uniform() * 8.0f;
    EXPECT_TRUE(same_float(e2m1_round(x), e2m1_decode(e2m1_encode(x)))) << x;
  }
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = e4m3_decode(static_cast<uint8_t>(code));
    EXPECT_TRUE(same_float(e4m3_round(value), value));
  }
}

TEST(Codecs, E8m0IsAPowerOfTwo) {
  for (int b = 0; b < 255; ++b) {
    EXPECT_EQ(e8m0_decode(static_cast<uint8_t>(b)), std::ldexp(1.0f, b - 127)) << b;
    EXPECT_EQ(e8m0_inverse(static_cast<uint8_t>(b)), std::ldexp(1.0f, 127 - b)) << b;
  }
  EXPECT_TRUE(std::isnan(e8m0_decode(255)));
  EXPECT_TRUE(std::isnan(e8m0_inverse(255)));
}

TEST(Codecs, WidensEvery16BitCode) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const auto code = static_cast<uint16_t>(h);
    EXPECT_EQ(to_bits(bf16_decode(code)), h << 16);
    const int e = (h >> 10) & 31;
    const double m = h & 1023;
    double value = e == 0 ? std::ldexp(m, -24) : std::ldexp(1024 + m, e - 25);
    if (e == 31) value = m == 0 ? INFINITY : NAN;
    if (h & 0x8000) value = -value;
    EXPECT_TRUE(same_float(f16_decode(code), static_cast<float>(value))) << h;
  }
}

TEST(Codecs, NarrowsEvery16BitCodeBackAndRoundsTiesToEven) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const auto code = static_cast<uint16_t>(h);
    const float bf16 = bf16_decode(code), f16 = f16_decode(code);
    EXPECT_EQ(bf16_encode(bf16), std::isnan(bf16) ? (code | 0x40) : code) << h;
    EXPECT_EQ(f16_encode(f16), std::isnan(f16) ? (code | 0x200) : code) << h;
    const bool last_f16 = (h & 0x7fff) >= 0x7bff, last_bf16 = (h & 0x7fff) >= 0x7f7f;
    const uint32_t even = (h + 1) & ~1u;  // of h and h + 1
    if (!last_f16) {
      const auto next = f16_decode(static_cast<uint16_t>(h + 1));
      const float middle = static_cast<float>((static_cast<double>(f16) + next) / 2);
      EXPECT_EQ(f16_encode(middle), h % 2 == 0 ? h : even) << h;
    }
    if (!last_bf16) {
      EXPECT_EQ(bf16_encode(from_bits((h << 16) + 0x8000u)), h % 2 == 0 ? h : even);
    }
  }
}

TEST(Codecs, Float16OverflowsToInfinityAndBf16KeepsNan) {
  EXPECT_EQ(f16_encode(65504.0f), 0x7bff);
  EXPECT_EQ(f16_encode(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(f16_encode(65520.0f), 0x7c00);
  EXPECT_EQ(f16_encode(-INFINITY), 0xfc00);
  EXPECT_EQ(f16_encode(from_bits(0x7f800001u)), 0x7e00);
  EXPECT_EQ(bf16_encode(from_bits(0x7f800001u)), 0x7fc0);
  EXPECT_EQ(bf16_encode(from_bits(0x7f7fffffu)), 0x7f80);
}

TEST(Codecs, FindsE2m1ValuesAmongE4m3Codes) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = e4m3_decode(static_cast<uint8_t>(code));
    uint32_t wanted = 255;
    for (uint32_t e2m1 = 0; e2m1 < 16; ++e2m1) {
      if (to_bits(e2m1_decode(static_cast<uint8_t>(e2m1))) == to_bits(value)) wanted = e2m1;
    }
    EXPECT_EQ(e2m1_from_e4m3(static_cast<uint8_t>(code)), wanted) << code;
  }
}

// ---- kernels: every level equals the scalar twin, lengths 0 to two vectors + 1 -----------------

constexpr size_t kLengths = 129;

template <typename In, typename Out, typename Kernel, typename Twin>
void expect_twins(const std::vector<In>& input, Kernel kernel, Twin twin) {
  for (const Cpu cpu : levels()) {
    for (size_t n = 0; n <= kLengths; ++n) {
      for (size_t begin = 0; begin + n <= input.size(); begin += std::max<size_t>(n, 1) * 97) {
        std::vector<Out> out(n + 1, Out(42));
        kernel(input.data() + begin, out.data(), n, cpu);
        for (size_t i = 0; i < n; ++i) {
          const Out wanted = twin(input[begin + i]);
          ASSERT_EQ(std::memcmp(&out[i], &wanted, sizeof wanted), 0)
              << "level " << static_cast<int>(cpu) << " length " << n << " item " << i;
        }
        ASSERT_EQ(out[n], Out(42)) << "written past the end";
      }
    }
    std::vector<Out> out(input.size());
    kernel(input.data(), out.data(), input.size(), cpu);
    for (size_t i = 0; i < input.size(); ++i) {
      const Out wanted = twin(input[i]);
      ASSERT_EQ(std::memcmp(&out[i], &wanted, sizeof wanted), 0) << "item " << i;
    }
  }
}

std::vector<float> awkward_floats() {
  testing::Random random(11);
  std::vector<float> out;
  for (const uint32_t bits : {0x00000000u, 0x80000000u, 0x00000001u, 0x007fffffu, 0x7f800000u,
                              0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffffffffu, 0x43e00000u,
                              0x43e80000u, 0x40c00000u, 0x477fe000u, 0x477ff000u}) {
    out.push_back(from_bits(bits));
  }
  for (const Format& f : formats()) {
    for (const double m : f.magnitudes) out.push_back(static_cast<float>(-m));
  }
  for (int i = 0; i < 30000; ++i) out.push_back(from_bits(random.bits()));
  for (int i = 0; i < 30000; ++i) out.push_back(random.uniform() * 500.0f);
  return out;
}

template <typename T>
std::vector<T> all_codes() {
  std::vector<T> out;
  for (uint32_t code = 0; code <= std::numeric_limits<T>::max(); ++code) {
    out.push_back(static_cast<T>(code));
  }
  return out;
}

TEST(CodecKernels, EncodersEqualTheirTwins) {
  const auto floats = awkward_floats();
  using U8 = void (*)(const float*, uint8_t*, size_t, Cpu);
  using U16 = void (*)(const float*, uint16_t*, size_t, Cpu);
  using F32 = void (*)(const float*, float*, size_t, Cpu);
  expect_twins<float, uint8_t>(floats, U8(e4m3_encode), [](float x) { return e4m3_encode(x); });
  expect_twins<float, uint8_t>(floats, U8(e5m2_encode), [](float x) { return e5m2_encode(x); });
  expect_twins<float, uint8_t>(floats, U8(e2m1_encode), [](float x) { return e2m1_encode(x); });
  expect_twins<float, uint16_t>(floats, U16(bf16_encode), [](float x) { return bf16_encode(x); });
  expect_twins<float, uint16_t>(floats, U16(f16_encode), [](float x) { return f16_encode(x); });
  expect_twins<float, float>(floats, F32(e4m3_round), [](float x) { return e4m3_round(x); });
}

TEST(CodecKernels, DecodersEqualTheirTwins) {
  const auto bytes = all_codes<uint8_t>();
  const auto halves = all_codes<uint16_t>();
  using U8 = void (*)(const uint8_t*, float*, size_t, Cpu);
  using U16 = void (*)(const uint16_t*, float*, size_t, Cpu);
  expect_twins<uint8_t, float>(bytes, U8(e4m3_decode), [](uint8_t c) { return e4m3_decode(c); });
  expect_twins<uint8_t, float>(bytes, U8(e5m2_decode), [](uint8_t c) { return e5m2_decode(c); });
  expect_twins<uint8_t, float>(bytes, U8(e2m1_decode), [](uint8_t c) { return e2m1_decode(c); });
  expect_twins<uint8_t, uint16_t>(bytes, e4m3_decode_bf16,
                                  [](uint8_t c) { return bf16_encode(e4m3_decode(c)); });
  expect_twins<uint8_t, uint16_t>(bytes, e5m2_decode_bf16,
                                  [](uint8_t c) { return bf16_encode(e5m2_decode(c)); });
  expect_twins<uint16_t, float>(halves, U16(bf16_decode),
                                [](uint16_t h) { return bf16_decode(h); });
  expect_twins<uint16_t, float>(halves, U16(f16_decode), [](uint16_t h) { return f16_decode(h); });
}

TEST(CodecKernels, PackingKeepsTheEvenColumnInTheLowNibble) {
  const uint8_t codes[] = {1, 2, 15, 8};
  uint8_t packed[2];
  e2m1_pack(codes, packed, 4);
  EXPECT_EQ(packed[0], 0x21);
  EXPECT_EQ(packed[1], 0x8f);
  testing::Random random(5);
  for (const Cpu cpu : levels()) {
    for (size_t n = 0; n <= 130; n += 2) {
      std::vector<uint8_t> in(n), bytes(n / 2 + 1, 0x5a), out(n + 1, 0x5a);
      std::vector<float> values(n + 1, 42.0f);
      for (auto& code : in) code = random.bits() & 15u;
      e2m1_pack(in.data(), bytes.data(), n, cpu);
      e2m1_unpack(bytes.data(), out.data(), n, cpu);
      e2m1_decode_packed(bytes.data(), values.data(), n, cpu);
      for (size_t i = 0; i < n; ++i) {
        EXPECT_EQ(out[i], in[i]);
        EXPECT_EQ(to_bits(values[i]), to_bits(e2m1_decode(in[i])));
      }
      EXPECT_TRUE(bytes[n / 2] == 0x5a && out[n] == 0x5a && values[n] == 42.0f);
    }
  }
}

}  // namespace
}  // namespace loadstone::common
