#include "common/ggml/dequantize.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "common/testing/oracle.hpp"

namespace loadstone::ggml {
namespace {

using common::Cpu;
using common::testing::levels;
using common::testing::Random;
using common::testing::same_float;

std::vector<const TypeInfo*> decoding_types() {
  std::vector<const TypeInfo*> out;
  for (uint32_t id = 0; id < kTypeEnd; ++id) {
    const TypeInfo* info = find_type(id);
    if (info != nullptr && info->decodes) out.push_back(info);
  }
  return out;
}

std::vector<uint8_t> random_blocks(const TypeInfo& info, uint64_t blocks, uint32_t seed) {
  Random random(seed);
  std::vector<uint8_t> out(blocks * info.nbytes);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random.bits() >> 13);
  return out;
}

/// Output with a guard value on each side; `offset` shifts it off its alignment.
struct Guarded {
  explicit Guarded(uint64_t count, uint64_t offset = 0) : offset_(16 + offset), count_(count) {
    void* at = nullptr;
    EXPECT_EQ(posix_memalign(&at, 64, (count + 64) * sizeof(float)), 0);
    floats_ = static_cast<float*>(at);
    for (uint64_t i = 0; i < count + 64; ++i) floats_[i] = kGuard;
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { std::free(floats_); }
  float* begin() { return floats_ + offset_; }
  bool intact() const {
    for (uint64_t i = 0; i < offset_; ++i) {
      if (floats_[i] != kGuard) return false;
    }
    for (uint64_t i = offset_ + count_; i < count_ + 64; ++i) {
      if (floats_[i] != kGuard) return false;
    }
    return true;
  }

 private:
  static constexpr float kGuard = 12345.5f;
  uint64_t offset_, count_;
  float* floats_ = nullptr;
};

TEST(GgmlDequantize, EveryLevelGivesTheScalarTwinsBits) {
  for (const TypeInfo* info : decoding_types()) {
    for (const uint64_t blocks : {0u, 1u, 2u, 3u, 37u}) {
      const auto bytes = random_blocks(*info, blocks, info->type + 1);
      const uint64_t count = blocks * info->elems;
      Guarded wanted(count);
      dequantizer(info->type, Stores::cached, Cpu::scalar)(bytes.data(), blocks, wanted.begin());
      for (const Cpu cpu : levels()) {
        for (const Stores stores : {Stores::cached, Stores::streamed}) {
          for (const uint64_t offset : {0u, 1u}) {
            Guarded found(count, offset);
            dequantizer(info->type, stores, cpu)(bytes.data(), blocks, found.begin());
            ASSERT_TRUE(found.intact()) << info->name;
            for (uint64_t i = 0; i < count; ++i) {
              ASSERT_TRUE(same_float(found.begin()[i], wanted.begin()[i]))
                  << info->name << " level " << static_cast<int>(cpu) << " value " << i;
            }
          }
        }
      }
    }
  }
}

TEST(GgmlDequantize, EveryDecodingBlockTypeHasAVectorKernel) {
  if (levels().size() == 1) GTEST_SKIP() << "this machine has no AVX2";
  for (const TypeInfo* info : decoding_types()) {
    if (info->elems == 1) continue;
    EXPECT_NE(dequantizer(info->type, Stores::cached, Cpu::avx2),
              dequantizer(info->type, Stores::cached, Cpu::scalar))
        << info->name;
  }
}

TEST(GgmlDequantize, TypesWithoutAPublishedDecoderHaveNone) {
  for (const Type type : {kQ8_1, kQ8_K, kQ1_0}) {
    EXPECT_EQ(dequantizer(type), nullptr);
    EXPECT_FALSE(find_type(type)->decodes);
  }
}

TEST(GgmlDequantize, ReadsNoBytePastTheLastBlock) {
  // An exactly sized heap block: the sanitizer build finds a read past it.
  for (const TypeInfo* info : decoding_types()) {
    const auto bytes = random_blocks(*info, 3, 7);
    std::unique_ptr<uint8_t[]> tight(new uint8_t[bytes.size()]);
    std::memcpy(tight.get(), bytes.data(), bytes.size());
    std::vector<float> out(3 * info->elems);
    for (const Cpu cpu : levels()) {
      dequantizer(info->type, Stores::cached, cpu)(tight.get(), 3, out.data());
    }
  }
}

/// One block's bytes with values that the layout table gives by hand.
struct KnownBlock {
  const char* type;
  std::vector<uint8_t> bytes;
  uint64_t at;
  float value;
};

TEST(GgmlDequantize, KnownBlocks) {
  const auto block = [](const char* type, std::vector<std::pair<size_t, uint8_t>> set) {
    std::vector<uint8_t> out(find_type(std::string_view(type))->nbytes);
    for (const auto& [at, byte] : set) out[at] = byte;
    return out;
  };
  // 0x3c00 is 1.0 in float16.
  const KnownBlock cases[] = {
      {"Q4_0", block("Q4_0", {{1, 0x3c}, {2, 0x0f}}), 0, 7.0f},
      {"Q4_0", block("Q4_0", {{1, 0x3c}, {2, 0x0f}}), 16, -8.0f},
      {"Q4_1", block("Q4_1", {{1, 0x3c}, {3, 0x3c}, {4, 0x30}}), 16, 4.0f},
      {"Q5_0", block("Q5_0", {{1, 0x3c}, {5, 0x80}, {21, 0x20}}), 31, 2.0f},
      {"Q8_0", block("Q8_0", {{1, 0x3c}, {33, 0x80}}), 31, -128.0f},
      {"MXFP4", block("MXFP4", {{0, 128}, {1, 0xf7}}), 0, 12.0f},
      {"MXFP4", block("MXFP4", {{0, 128}, {1, 0xf7}}), 16, -12.0f},
      {"MXFP4", block("MXFP4", {{0, 0}, {1, 0x01}}), 0, 0x1p-128f},
      {"MXFP4", block("MXFP4", {{0, 255}, {1, 0x01}}), 0, 0x1p127f},  // 255 is not NaN
      {"NVFP4", block("NVFP4", {{1, 0x38}, {12, 0xa0}}), 24, -1.0f},
      {"NVFP4", block("NVFP4", {{0, 0x7f}, {4, 0x07}}), 0, 0.0f},
      {"TQ2_0", block("TQ2_0", {{65, 0x3c}, {32, 0x80}}), 224, 1.0f},
      {"Q6_K", block("Q6_K", {{209, 0x3c}, {192, 2}, {128, 0x03}, {0, 0x0f}}), 0, 62.0f},
  };
  for (const KnownBlock& known : cases) {
    const TypeInfo* info = find_type(std::string_view(known.type));
    std::vector<float> out(info->elems);
    dequantizer(info->type, Stores::cached, Cpu::scalar)(known.bytes.data(), 1, out.data());
    EXPECT_EQ(out[known.at], known.value) << known.type << " value " << known.at;
  }
}

}  // namespace
}  // namespace loadstone::ggml
