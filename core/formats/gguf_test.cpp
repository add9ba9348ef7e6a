#include "formats/gguf.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing/memory_file.hpp"
#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using loadstone::testing::MemoryFile;
using ::testing::ElementsAre;
using testing::Gguf;
using ::testing::HasSubstr;
using testing::little_endian;
using testing::ModelFolder;

constexpr uint32_t kF32 = 0, kF16 = 1, kQ40 = 2, kQ4K = 12;

Result<GgufFile> read(std::string_view bytes, const OpenOptions& options = {}) {
  return read_gguf(MemoryFile(bytes, "m.gguf"), bytes.size(), options);
}

std::string error_of(std::string_view bytes, const OpenOptions& options = {}) {
  auto file = read(bytes, options);
  if (file.ok()) return "accepted";
  EXPECT_EQ(file.error().code, Code::invalid_checkpoint);
  return file.error().text();
}

constexpr const char* kHeader = "gguf header rejected: m.gguf: ";
constexpr const char* kTensor = "gguf tensor rejected: m.gguf: ";

TEST(GgufReader, ReadsKeysAndTensors) {
  Gguf file;
  file.str("general.architecture", "qwen_image").u32("general.file_type", 15);
  file.raw_key("f", 6, little_endian(0.5f)).raw_key("b", 7, "\1").i32s("dims", {1, -2, 3});
  file.raw_key("u", 10, little_endian<uint64_t>(UINT64_MAX));
  file.raw_key(
      "names", 9,
      little_endian<uint32_t>(8) + little_endian<uint64_t>(2) + Gguf::text("x") + Gguf::text("yz"));
  file.tensor("a.weight", {256, 3}, kQ4K, 432).tensor("b", {5}, kF32, 20).tensor("c", {}, kF16, 2);
  const std::string bytes = file.bytes();
  auto parsed = read(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  EXPECT_EQ(parsed->metadata.to_json(),
            R"({"general.architecture":"qwen_image","general.file_type":15,"f":0.5,"b":true,)"
            R"("dims":[1,-2,3],"u":1.8446744073709552e+19,"names":["x","yz"]})");
  ASSERT_EQ(parsed->tensors.size(), 3u);
  const uint64_t data = (file.head().size() + 31) / 32 * 32;
  EXPECT_EQ(parsed->tensors[0].dtype, ggml_dtype(kQ4K));
  EXPECT_THAT(parsed->tensors[0].shape, ElementsAre(3, 256));
  EXPECT_EQ(parsed->tensors[0].nbytes, 432u);
  EXPECT_EQ(parsed->tensors[0].offset, data);
  EXPECT_EQ(parsed->tensors[1].dtype, DType::F32);
  EXPECT_EQ(parsed->tensors[1].offset, data + 448);
  EXPECT_EQ(parsed->tensors[2].nbytes, 2u);
  EXPECT_TRUE(parsed->notes.empty());
  EXPECT_EQ(error_of(bytes.substr(0, bytes.size() - 30)), "accepted");  // the last padding
}

TEST(GgufReader, LongArraysAreOnlyDescribed) {
  const auto file = read(Gguf().i32s("tokens", std::vector<int32_t>(1025, 7)).bytes());
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->metadata.to_json(), R"({"tokens":{"array":"int32","count":1025}})");
}

TEST(GgufReader, OriginalShapes) {
  Gguf file;
  file.i32s("comfy.gguf.orig_shape.conv", {32, 16, 4}).i32s("comfy.gguf.orig_shape.flat", {4, 512});
  file.i32s("comfy.gguf.orig_shape.plain", {2, 3, 1}).i32s("comfy.gguf.orig_shape.absent", {1});
  file.tensor("conv", {256, 8}, kQ4K, 8 * 144).tensor("flat", {256, 8}, kQ4K, 8 * 144);
  file.tensor("plain", {6}, kF32, 24);
  auto parsed = read(file.bytes());
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  // Rows of 4 hold no whole block: the tensor stays as stored, its true shape lies beside.
  EXPECT_THAT(parsed->tensors[0].shape, ElementsAre(8, 256));
  ASSERT_EQ(parsed->reshaped.size(), 1u);
  EXPECT_EQ(parsed->reshaped[0].first, 0u);
  EXPECT_THAT(parsed->reshaped[0].second, ElementsAre(32, 16, 4));
  EXPECT_THAT(parsed->tensors[1].shape, ElementsAre(4, 512));
  EXPECT_THAT(parsed->tensors[2].shape, ElementsAre(2, 3, 1));
  EXPECT_EQ(
      error_of(Gguf().i32s("comfy.gguf.orig_shape.x", {2, 2}).tensor("x", {6}, kF32, 24).bytes()),
      std::string(kTensor) +
          "x: found \"comfy.gguf.orig_shape.x\", expected an array of int32 whose product is "
          "the tensor's");
}

TEST(GgufReader, S19_MagicVersionAndByteOrder) {
  Gguf file;
  file.magic = "GGML";
  EXPECT_EQ(error_of(file.bytes()),
            kHeader + std::string("found magic \"GGML\", expected \"GGUF\""));
  const std::pair<uint32_t, std::string> versions[] = {
      {0, "found version 0, expected 2 or 3"},
      {1, "found version 1, expected 2 or 3"},
      {4, "found version 4, expected 2 or 3"},
      {0x03000000, "found a file of the other byte order, expected little-endian"}};
  for (const auto& [version, found] : versions) {
    Gguf other;
    other.version = version;
    EXPECT_EQ(error_of(other.bytes()), kHeader + found);
  }
  EXPECT_EQ(error_of("GGUF"),
            kHeader + std::string("found 4 bytes, expected at least 24 (too short: an interrupted "
                                  "download?)"));
}

TEST(GgufReader, S20_CountsBeyondTheFile) {
  for (const uint64_t lie :
       {uint64_t{1}, uint64_t{1} << 48, (uint64_t{1} << 48) + 1, UINT64_MAX, UINT64_MAX / 24 + 2}) {
    Gguf tensors;
    tensors.extra_tensors = lie;
    EXPECT_EQ(
        error_of(tensors.head()),
        kHeader + fmt::format("found {} tensors, expected at most 0 (what the rest of the file "
                              "can hold)",
                              lie));
    Gguf keys;
    keys.extra_keys = lie;
    EXPECT_EQ(error_of(keys.head()),
              kHeader + fmt::format("found {} keys, expected at most 0 (what the rest of the file "
                                    "can hold)",
                                    lie));
  }
}

TEST(GgufReader, S21_StringsAndArraysBeyondTheFile) {
  const std::string u64_max = little_endian<uint64_t>(UINT64_MAX);
  const auto array = [](uint32_t type, uint64_t count, const std::string& values) {
    return little_endian(type) + little_endian(count) + values;
  };
  const std::pair<std::string, std::string> cases[] = {
      {Gguf().raw_key("k", 8, u64_max).head(),
       "found a string of 18446744073709551615 bytes at byte 37, expected at most 0"},
      {Gguf().raw_key("k", 8, little_endian<uint64_t>(5) + "abcd").head(),
       "found a string of 5 bytes at byte 37, expected at most 4"},
      {Gguf().raw_key("k", 9, array(4, uint64_t{1} << 62, "")).head(),
       "found 4611686018427387904 values of type uint32 under key \"k\", expected at most the 0 "
       "bytes left"},
      {Gguf().raw_key("k", 9, array(4, 2, "abcd")).head(),
       "found 2 values of type uint32 under key \"k\", expected at most the 4 bytes left"},
      {Gguf().raw_key("k", 9, array(8, 1000, "abcd")).head(),
       "found 1000 values of type string under key \"k\", expected at most the 4 bytes left"},
      {Gguf().raw_key("k", 9, array(9, 1, std::string(64, '\0'))).head(),
       "found an array of arrays under key \"k\", expected plain values"},
      {Gguf().raw_key("k", 13, std::string(8, '\0')).head(),
       "found value type 13 of key \"k\", expected 0 to 12"},
      {Gguf().raw_key("k", 9, array(77, 1, std::string(8, '\0'))).head(),
       "found value type 77 of key \"k\", expected 0 to 12"},
      {Gguf().raw_key("k", 7, "\2").head(), "found a bool 2 of key \"k\", expected 0 or 1"}};
  for (const auto& [bytes, found] : cases) EXPECT_EQ(error_of(bytes), kHeader + found);
  // A key of another type than the reader needs.
  EXPECT_EQ(error_of(Gguf().str("general.alignment", "32").bytes()),
            kHeader + std::string("found general.alignment of another type, expected uint32"));
}

TEST(GgufReader, S22_Dims) {
  const auto with_dims = [](std::vector<int64_t> dims) {
    return Gguf().raw_tensor("t", std::move(dims), kF32, 0, 64).bytes();
  };
  EXPECT_EQ(error_of(with_dims({1, 1, 1, 1, 1})),
            std::string(kTensor) + "t: found 5 dims, expected at most 4");
  EXPECT_EQ(error_of(with_dims({0, 4})),
            std::string(kTensor) + "t: found dim 0, expected 1 or more");
  EXPECT_EQ(error_of(with_dims({-4})),
            std::string(kTensor) + "t: found dim -4, expected 1 or more");
  const std::string overflow =
      std::string(kTensor) + "t: found dims whose product overflows, expected fewer elements";
  EXPECT_EQ(error_of(with_dims({int64_t{1} << 32, int64_t{1} << 32})), overflow);
  EXPECT_EQ(error_of(with_dims({int64_t{1} << 62, 2})), overflow);
  EXPECT_EQ(error_of(with_dims({INT64_MAX, 1})), overflow);
}

TEST(GgufReader, S23_TypesAndBlocks) {
  const auto with_type = [](uint32_t type, int64_t row) {
    return Gguf().raw_tensor("t", {row}, type, 0, 4096).bytes();
  };
  for (const uint32_t type : {4u, 5u, 31u, 36u, 43u, 1000u, 0x1002u}) {
    EXPECT_EQ(error_of(with_type(type, 256)),
              std::string(kTensor) +
                  fmt::format("t: found ggml type {}, expected one that exists (0 to 42 without "
                              "removed ones)",
                              type));
  }
  EXPECT_THAT(error_of(with_type(UINT32_MAX, 256)), HasSubstr("found ggml type -1, "));
  EXPECT_EQ(
      error_of(with_type(kQ4K, 100)),
      std::string(kTensor) + "t: found 100 elements a row, expected a multiple of 256 for Q4_K");
  EXPECT_EQ(
      error_of(with_type(kQ40, 33)),
      std::string(kTensor) + "t: found 33 elements a row, expected a multiple of 32 for Q4_0");
  // The running sum of padded sizes, not only each size, is held against the file.
  Gguf two;
  two.raw_tensor("a", {int64_t{1} << 61}, 24, 0, 32);
  two.raw_tensor("b", {int64_t{1} << 61}, 24, uint64_t{1} << 61, 32);
  EXPECT_THAT(error_of(two.bytes()), HasSubstr("a: found 2305843009213693952 bytes at byte "));
}

TEST(GgufReader, S24_OffsetsAndAlignment) {
  const auto second_at = [](uint64_t offset) {
    return Gguf().tensor("a", {5}, kF32, 20).raw_tensor("b", {5}, kF32, offset, 20).bytes();
  };
  for (const uint64_t offset : {uint64_t{0}, uint64_t{20}, uint64_t{64}, UINT64_MAX}) {
    EXPECT_EQ(error_of(second_at(offset)),
              std::string(kTensor) + fmt::format("b: found offset {}, expected 32 (the end of what "
                                                 "lies before, padded to 32)",
                                                 offset));
  }
  EXPECT_EQ(error_of(second_at(32)), "accepted");
  for (const uint32_t alignment : {0u, 3u, 33u, 1u << 31, 1u << 21}) {
    EXPECT_EQ(
        error_of(Gguf().u32("general.alignment", alignment).bytes()),
        kHeader + fmt::format("found general.alignment {}, expected a power of two of at most "
                              "1048576",
                              alignment));
  }
  Gguf wide;
  wide.alignment = 4096;
  wide.u32("general.alignment", 4096).tensor("a", {5}, kF32, 20).tensor("b", {5}, kF32, 20);
  EXPECT_EQ(error_of(wide.bytes()), "accepted");
  const std::string bytes = Gguf().tensor("a", {64}, kF32, 256).bytes();
  EXPECT_EQ(error_of(bytes.substr(0, bytes.size() - 1)),
            std::string(kTensor) +
                "a: found 256 bytes at byte 64, expected its end within the file's 319 bytes (an "
                "interrupted download?)");
  auto longer = read(bytes + std::string(40, 'x'));
  ASSERT_TRUE(longer.ok());
  EXPECT_THAT(longer->notes, ElementsAre("m.gguf: 40 bytes behind the last tensor are not read"));
}

TEST(GgufReader, S25_DuplicatesAndNames) {
  EXPECT_EQ(error_of(Gguf().u32("k", 1).u32("k", 2).bytes()),
            kHeader + std::string("found duplicate key \"k\", expected it once"));
  EXPECT_EQ(error_of(Gguf().tensor("a", {1}, kF32, 4).tensor("a", {1}, kF32, 4).bytes()),
            kHeader + std::string("found duplicate tensor \"a\", expected it once"));
  EXPECT_EQ(error_of(Gguf().u32("", 1).bytes()),
            kHeader + std::string("found an empty key, expected a name"));
  EXPECT_EQ(error_of(Gguf().tensor("", {1}, kF32, 4).bytes()),
            kHeader + std::string("found an empty tensor name, expected a name"));
  const std::string longest(4096, 'n');
  EXPECT_EQ(error_of(Gguf().tensor(longest, {1}, kF32, 4).bytes()), "accepted");
  EXPECT_THAT(error_of(Gguf().tensor(longest + "n", {1}, kF32, 4).bytes()),
              HasSubstr("found a tensor name of 4097 bytes at byte 24, expected at most 4096"));
}

TEST(GgufReader, S25_SeventyThousandNames) {
  Gguf file;
  for (int i = 0; i < 70'000; ++i) file.tensor("t" + std::to_string(i), {1}, kF32, 4);
  auto parsed = read(file.bytes());
  ASSERT_TRUE(parsed.ok()) << parsed.error().text();
  EXPECT_EQ(parsed->tensors.size(), 70'000u);
}

TEST(GgufReader, HeadLimitIsNamed) {
  OpenOptions options;
  options.max_header_nbytes = 100;
  EXPECT_EQ(error_of(Gguf().str("k", std::string(200, 'a')).bytes(), options),
            kHeader + std::string("found a head of more than 100 bytes, expected less (the limit "
                                  "max_header_nbytes)"));
}

Gguf part(uint16_t number, uint16_t count, int32_t tensors) {
  Gguf file;
  if (number == 0) file.str("general.architecture", "qwen_image");
  file.u16("split.no", number).u16("split.count", count).i32("split.tensors.count", tensors);
  return file;
}

class SplitTest : public ::testing::Test {
 protected:
  void write(int number, const std::string& bytes, const std::string& stem = "m") {
    folder_.write(fmt::format("{}-{:05}-of-00002.gguf", stem, number), bytes);
  }
  ModelFolder folder_;
};

TEST_F(SplitTest, AnyPartOpensTheSet) {
  write(1, part(0, 2, 3).tensor("a", {32}, kQ40, 18).bytes());
  write(2, part(1, 2, 3).tensor("b", {1}, kF32, 4).tensor("c", {1}, kF32, 4).bytes());
  for (const std::string name : {"", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    auto opened = folder_.open(name);
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    const Component& component = opened->components.at(0);
    ASSERT_EQ(component.tensors.size(), 3u);
    EXPECT_EQ(component.tensors[0].file, 0u);
    EXPECT_EQ(component.tensors[2].file, 1u);
    EXPECT_EQ(component.class_name, "qwen_image");
    ASSERT_EQ(component.declarations.size(), 1u);
    EXPECT_EQ(component.declarations[0].origin, "gguf");
    EXPECT_EQ(component.declarations[0].value.to_json(),
              R"({"general.architecture":"qwen_image"})");
  }
}

TEST_F(SplitTest, S26_PartsMustBelongTogether) {
  const std::string first = part(0, 2, 2).tensor("a", {1}, kF32, 4).bytes();
  write(1, first);
  EXPECT_EQ(folder_.error(),
            "gguf set rejected: m-00002-of-00002.gguf: found no file, expected a part of "
            "m-00001-of-00002.gguf (an incomplete download?)");
  const std::string second = "gguf set rejected: m-00002-of-00002.gguf: ";
  const std::pair<std::string, std::string> cases[] = {
      {part(0, 2, 2).tensor("b", {1}, kF32, 4).bytes(),
       second + "found part 0 of 2 with 2 tensors in all, expected part 1 of 2 with 2"},
      {part(1, 3, 2).tensor("b", {1}, kF32, 4).bytes(),
       second + "found part 1 of 3 with 2 tensors in all, expected part 1 of 2 with 2"},
      {part(1, 2, 9).tensor("b", {1}, kF32, 4).bytes(),
       second + "found part 1 of 2 with 9 tensors in all, expected part 1 of 2 with 2"},
      {part(1, 2, 2).tensor("a", {1}, kF32, 4).bytes(),
       second + "found tensor \"a\" again, expected it in one part"},
      {part(1, 2, 2).str("general.architecture", "flux").tensor("b", {1}, kF32, 4).bytes(),
       second + "found a part of a \"flux\" model, expected \"qwen_image\""},
      {part(1, 2, 2).bytes(),
       "gguf set rejected: m-00001-of-00002.gguf: found 1 tensors in 2 parts, expected 2 "
       "(split.tensors.count)"}};
  for (const auto& [bytes, error] : cases) {
    write(2, bytes);
    EXPECT_EQ(folder_.error(), error);
  }
}

TEST_F(SplitTest, S26_CountsAndNames) {
  EXPECT_EQ(
      error_of(part(0, 0, 1).bytes()),
      kHeader + std::string("found part 0 of 0 (split.no, split.count), expected a part below "
                            "the count"));
  EXPECT_EQ(
      error_of(part(2, 2, 1).bytes()),
      kHeader + std::string("found part 2 of 2 (split.no, split.count), expected a part below "
                            "the count"));
  folder_.write("m-00001-of-00002.gguf", part(0, 65535, 1).tensor("a", {1}, kF32, 4).bytes());
  EXPECT_EQ(
      folder_.error(),
      "gguf set rejected: m-00001-of-00002.gguf: found a part of 65535 (split.count), expected "
      "a name ending in -NNNNN-of-65535.gguf");
  folder_.write("m-00001-of-00002.gguf", Gguf().tensor("a", {1}, kF32, 4).bytes());
  EXPECT_EQ(
      folder_.error(),
      "gguf set rejected: m-00001-of-00002.gguf: found no split.count, expected 2 as the name "
      "says");
  EXPECT_EQ(error_of(Gguf().str("split.count", "2").bytes()),
            kHeader + std::string("found split.count that is no whole number, expected one"));
}

TEST(GgufReader, TruncatedAnywhereIsRejected) {
  Gguf file;
  file.str("general.architecture", "x").i32s("l", {1, 2}).tensor("a", {32, 2}, kQ40, 36);
  const std::string bytes = file.bytes();
  ASSERT_EQ(error_of(bytes), "accepted");
  for (size_t cut = 0; cut + 28 < bytes.size(); ++cut) {
    EXPECT_NE(error_of(bytes.substr(0, cut)), "accepted") << cut;
  }
}

TEST(GgufReader, AlteredBytesAreRejectedOrConsistent) {
  Gguf file;
  file.str("general.architecture", "x").u32("general.alignment", 32).i32s("l", {1, 2});
  file.tensor("a", {32, 2}, kQ40, 36).tensor("b", {3}, kF32, 12);
  const std::string good = file.bytes();
  for (size_t at = 0; at < file.head().size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(byte);
      auto parsed = read(bytes);
      if (!parsed.ok()) continue;
      for (const TensorEntry& tensor : parsed->tensors) {
        EXPECT_LE(tensor.offset + tensor.nbytes, bytes.size());
        EXPECT_TRUE(layout_of(tensor.dtype));
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::formats
