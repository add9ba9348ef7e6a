#include "formats/gguf_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/testing/temp_folder.hpp"
#include "formats/gguf.hpp"

namespace loadstone::formats {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr DType kQ8_0 = ggml_dtype(8);

class GgufWriterTest : public ::testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder_ + "/" + name; }

  std::string refusal(const std::vector<TensorSpec>& tensors) const {
    auto writer = GgufWriter::create(at("x.gguf"), tensors, {});
    return writer.ok() ? "accepted" : writer.error().text();
  }

  const loadstone::testing::TempFolder temp_;
  const std::string folder_ = temp_.path();
};

TEST_F(GgufWriterTest, WhatItWritesIsReadAgain) {
  const TensorSpec tensors[] = {{"a.weight", kQ8_0, {3, 64}},
                                {"a.bias", DType::BF16, {3}},
                                {"c.weight", DType::F32, {2, 1, 3, 5}}};
  const uint64_t sizes[] = {3 * 2 * 34, 6, 120};
  std::string bytes(sizes[0] + sizes[1] + sizes[2], '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + 1);
  auto writer = GgufWriter::create(
      at("x.gguf"), tensors,
      {{"general.architecture", std::string("qwen_image")}, {"general.file_type", uint32_t{7}}});
  ASSERT_TRUE(writer.ok()) << writer.error().text();
  EXPECT_FALSE(fs::exists(at("x.gguf")));
  const auto all = std::as_bytes(std::span(bytes));
  for (const size_t cut : {0u, 1u, 205u, 250u}) {  // cut anywhere, also across tensors
    const size_t next = cut == 0 ? 1 : cut == 1 ? 205 : cut == 205 ? 250 : bytes.size();
    ASSERT_TRUE(writer->append(all.subspan(cut, next - cut)).ok());
  }
  ASSERT_TRUE(writer->finish().ok());

  const auto file = system_files().open(at("x.gguf"));
  ASSERT_TRUE(file.ok());
  const uint64_t nbytes = fs::file_size(at("x.gguf"));
  const auto read = read_gguf(**file, nbytes);
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_TRUE(read->notes.empty());
  EXPECT_EQ(read->metadata.find("general.architecture")->text(), "qwen_image");
  EXPECT_EQ(read->metadata.find("general.file_type")->integer(), 7);
  ASSERT_EQ(read->tensors.size(), 3u);
  uint64_t begin = 0;
  for (size_t i = 0; i < 3; ++i) {
    const TensorEntry& tensor = read->tensors[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.dtype, tensors[i].dtype);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    ASSERT_EQ(tensor.nbytes, sizes[i]);
    std::vector<std::byte> found(tensor.nbytes);
    ASSERT_TRUE((*file)->read_exact(found, tensor.offset).ok());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), all.begin() + static_cast<int64_t>(begin)));
    begin += sizes[i];
  }
}

TEST_F(GgufWriterTest, RefusesWhatTheFormatCantHold) {
  EXPECT_EQ(refusal({{"a", DType::F8_E4M3, {1}}}),
            "tensor can't be written as GGUF: \"a\": found dtype F8_E4M3, expected one that ggml "
            "has");
  EXPECT_THAT(refusal({{"a", DType::F32, {1, 1, 1, 1, 1}}}),
              HasSubstr("found rank 5, expected 1 to 4"));
  EXPECT_THAT(refusal({{"a", DType::F32, {}}}), HasSubstr("found rank 0, expected 1 to 4"));
  EXPECT_THAT(refusal({{"a", kQ8_0, {2, 48}}}), HasSubstr("cuts a block"));
  EXPECT_THAT(refusal({{"a", DType::F32, {0, 4}}}), HasSubstr("is empty"));
  EXPECT_THAT(refusal({{"a", DType::F32, {uint64_t{1} << 40, uint64_t{1} << 40}}}),
              HasSubstr("overflows"));
  EXPECT_THAT(refusal({{"a", DType::F32, {1}}, {"a", DType::F32, {1}}}), HasSubstr("repeated"));
  EXPECT_EQ(refusal({{std::string(63, 'n'), DType::F32, {1}}}), "accepted");
  EXPECT_THAT(refusal({{std::string(64, 'n'), DType::F32, {1}}}),
              HasSubstr("found a name of 64 bytes, expected 1 to 63"));
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(GgufWriterTest, NothingIsLeftOfAnUnfinishedFile) {
  const TensorSpec tensors[] = {{"a", DType::F32, {2}}};
  {
    auto writer = GgufWriter::create(at("x.gguf"), tensors, {});
    ASSERT_TRUE(writer.ok());
    const std::string bytes(8, 'x');
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(bytes)).first(4)).ok());
    EXPECT_THAT(writer->finish().error().text(), HasSubstr("found 0 whole tensors, expected 1"));
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(bytes)).first(4)).ok());
    EXPECT_THAT(writer->append(std::as_bytes(std::span(bytes))).error().text(),
                HasSubstr("found 8 more bytes, expected none"));
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace loadstone::formats
