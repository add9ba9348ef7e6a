#include "plan/family_order.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace loadstone::plan {
namespace {

using ::testing::HasSubstr;

/// Bytes in memory, in short reads.
class Bytes : public File {
 public:
  explicit Bytes(std::string content) : File("memory"), content_(std::move(content)) {}
  ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const override {
    if (offset >= content_.size()) return 0;
    const size_t count = std::min<size_t>({into.size(), content_.size() - offset, 3});
    std::memcpy(into.data(), content_.data() + offset, count);
    return static_cast<ssize_t>(count);
  }
  Result<FileIdentity> identity() const override { return FileIdentity{0, 0, content_.size(), 0}; }

 private:
  std::string content_;
};

struct Stored {
  std::string suffix;
  DType dtype = DType::U8;
  formats::Shape shape;
  uint64_t offset = 0, nbytes = 0;
};

/// One layer of 4 rows over a file "0123456789abcdef".
struct Model {
  std::shared_ptr<formats::Checkpoint> checkpoint = std::make_shared<formats::Checkpoint>();
  graph::Graph graph;

  explicit Model(const std::vector<Stored>& tensors, std::string transform = "swap_halves") {
    checkpoint->files.push_back({"memory", std::make_shared<Bytes>("0123456789abcdef"), {}});
    checkpoint->components.emplace_back();
    graph.components.emplace_back();
    graph::Layer layer;
    layer.path = "norm_out.linear";
    layer.parts.emplace_back();
    layer.parts[0].transform = std::move(transform);
    layer.parts[0].out_count = layer.parts[0].file_total = 4;
    for (const Stored& one : tensors) {
      layer.tensors.push_back(
          {static_cast<uint32_t>(checkpoint->components[0].tensors.size()), 0, 0, one.suffix});
      checkpoint->components[0].tensors.push_back(
          {"X." + one.suffix, one.dtype, one.shape, 0, one.offset, one.nbytes});
    }
    graph.layers.push_back(std::move(layer));
  }

  std::string read(uint64_t offset, uint64_t nbytes) const {
    const auto ordered = in_family_order(checkpoint, graph);
    if (!ordered.ok()) return ordered.error().text();
    std::string out(nbytes, '?');
    const Status status =
        (*ordered)->files[0].file->read_exact(std::as_writable_bytes(std::span(out)), offset);
    return status.ok() ? out : status.error().text();
  }
};

TEST(FamilyOrder, ExchangesTheHalvesOfEveryTensorOfThePart) {
  const Model model({{"weight", DType::U8, {4, 2}, 1, 8}, {"bias", DType::U8, {4}, 11, 4}});
  const std::string expected =
      "0"
      "5678"
      "1234"
      "9a"
      "de"
      "bc"
      "f";
  for (uint64_t begin = 0; begin <= 16; ++begin) {
    for (uint64_t end = begin; end <= 16; ++end) {
      EXPECT_EQ(model.read(begin, end - begin), expected.substr(begin, end - begin));
    }
  }
  EXPECT_THAT(model.read(10, 7), HasSubstr("changed while reading"));
}

TEST(FamilyOrder, BlocksOfRowsFollowTheirRows) {
  EXPECT_EQ(Model({{"weight_scale_inv", DType::U8, {2, 3}, 0, 6}}).read(0, 7), "3450126");
  EXPECT_EQ(Model({{"weight", ggml_dtype(8), {4, 32}, 0, 8}}).read(0, 8), "45670123");
}

TEST(FamilyOrder, WhatIsOfTheWholeWeightStays) {
  EXPECT_EQ(Model({{"weight_scale", DType::F32, {}, 0, 4}}).read(0, 4), "0123");
  EXPECT_EQ(Model({{"input_scale", DType::F32, {1}, 0, 4}}).read(0, 4), "0123");
}

TEST(FamilyOrder, OtherPartsAreReadAsTheyAre) {
  const Model model({{"weight", DType::U8, {4, 2}, 1, 8}}, "");
  const auto ordered = in_family_order(model.checkpoint, model.graph);
  ASSERT_TRUE(ordered.ok());
  EXPECT_EQ(ordered->get(), model.checkpoint.get());
}

TEST(FamilyOrder, RefusesTensorsWhoseLeadingAxisIsNoRows) {
  EXPECT_EQ(Model({{"qweight", DType::I32, {2, 4}, 0, 8}}).read(0, 1),
            "halves can't be exchanged: X.qweight: found 2 leading rows for 4 of the layer, "
            "expected a weight, bias or scale of an even number of equal blocks of rows");
  EXPECT_THAT(Model({{"mul_scale", DType::U8, {4}, 0, 4}}).read(0, 1), HasSubstr("X.mul_scale"));
  EXPECT_THAT(Model({{"weight", DType::U8, {3, 2}, 0, 6}}).read(0, 1),
              HasSubstr("found 3 leading"));
}

}  // namespace
}  // namespace loadstone::plan
