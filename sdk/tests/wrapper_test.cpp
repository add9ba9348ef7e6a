// The parts of plugin.hpp that the conformance kit doesn't reach by itself.
#include <gmock/gmock.h>

#include <cmath>
#include <loadstone/plugin.hpp>
#include <random>

#include "conformance/layer_case.hpp"
#include "plugin/registry.hpp"
#include "plugin/sinks.hpp"

namespace loadstone::sdk {
namespace {

using conformance::CaseView;
using conformance::LayerCase;
using conformance::Layout;

class WrapperTest : public ::testing::Test {
 protected:
  void SetUp() override { detail::host_copy = plugin::host_table(); }

  static LayerCase fused() {
    conformance::Random random(1);
    return make_case({LS_KIND_LINEAR, Layout::fused, 12, 4}, random);
  }
  static std::string ignored(const LayerCase& layer, std::vector<std::string> entries) {
    const CaseView view(layer);
    try {
      const char* entry = ignored_by(entries, Layer(&view.get()));
      return entry == nullptr ? "none" : entry;
    } catch (const Failure& failure) {
      return failure.what();
    }
  }
};

TEST_F(WrapperTest, HalvesEqualTheCompilersOwn) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    _Float16 truth;
    std::memcpy(&truth, &half, sizeof half);
    const auto expected = static_cast<float>(truth);
    const float found = f16_to_float(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(found)) << bits;
      ASSERT_TRUE(std::isnan(f16_to_float(float_to_f16(found)))) << bits;
      continue;
    }
    ASSERT_EQ(found, expected) << bits;
    ASSERT_EQ(float_to_f16(found), half) << bits;
    if (std::isinf(expected)) continue;
    // The midpoint to the next half, and one float beside it on either side.
    const uint16_t above = static_cast<uint16_t>(bits + 1);
    const float next = f16_to_float(above);
    if (!std::isfinite(next)) continue;
    const float middle = (found + next) / 2;
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, next)}) {
      const auto rounded = static_cast<_Float16>(value);
      uint16_t code;
      std::memcpy(&code, &rounded, sizeof code);
      ASSERT_EQ(float_to_f16(value), code) << value;
    }
  }
  EXPECT_EQ(float_to_f16(65519.99f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(-1e30f), 0xfc00);
}

TEST_F(WrapperTest, Bf16RoundsToNearestEvenAndKeepsNaN) {
  std::mt19937 random(3);
  for (int i = 0; i < 200000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const auto value = std::bit_cast<float>(bits);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value))));
      continue;
    }
    const uint32_t low = bits & 0xffff, high = bits >> 16;
    const bool up = low > 0x8000 || (low == 0x8000 && (high & 1) != 0);
    ASSERT_EQ(float_to_bf16(value), static_cast<uint16_t>(high + (up ? 1 : 0))) << bits;
  }
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_F(WrapperTest, IgnoredLayersNameFusedLayersByPathOrByAllParts) {
  const LayerCase layer = fused();  // blocks.7.attn.proj of block.to_q, block.to_k, block.to_v
  EXPECT_EQ(ignored(layer, {}), "none");
  EXPECT_EQ(ignored(layer, {"mlp", "proj"}), "proj");
  EXPECT_EQ(ignored(layer, {"to_q", "to_k", "to_v"}), "to_q");
  EXPECT_EQ(ignored(layer, {"block"}), "block");
  EXPECT_EQ(ignored(layer, {"block.to_?"}), "block.to_?");
  EXPECT_EQ(ignored(layer, {"re:block\\.to_[qkv]$"}), "re:block\\.to_[qkv]$");
  EXPECT_EQ(ignored(layer, {"transformer.blocks.7.attn"}), "transformer.blocks.7.attn");
  EXPECT_EQ(ignored(layer, {"to_q", "to_v"}),
            "ignored_layers names some parts of a fused layer: blocks.7.attn.proj: found \"to_q\", "
            "expected also \"block.to_k\"");
  EXPECT_EQ(ignored(layer, {"re:(bad"}), "ignored_layers entry rejected: \"^(?:(bad)\"");
}

TEST_F(WrapperTest, TensorsAreFoundByPartAndSuffix) {
  const LayerCase layer = fused();
  const CaseView view(layer);
  const Layer seen(&view.get());
  EXPECT_EQ(seen.get(2, "weight").part, 2u);
  EXPECT_FALSE(seen.find(0, "weight_scale").has_value());
  EXPECT_FALSE(seen.find(3, "weight").has_value());
  try {
    seen.get(1, "weight_scale");
    FAIL() << "found a tensor that isn't there";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.status(), LS_INVALID_CHECKPOINT);
    EXPECT_STREQ(failure.what(), "tensor missing: block.to_k: expected \"weight_scale\"");
  }
}

TEST_F(WrapperTest, StoredTensorsAreSplitByPartsAlongTheOutput) {
  const LayerCase layer = fused();
  const CaseView view(layer);
  const Layer seen(&view.get());
  ls_stored rows = make<ls_stored>();
  rows.rank = 2;
  rows.shape[0] = 12;
  rows.shape[1] = 4;
  const SavedTensor cut = detail::cut_for_part(seen, rows, 12 * 4 * 2, 1);
  const Part part = seen.part(1);
  EXPECT_EQ(cut.shape.shape[0], part.out_count);
  EXPECT_EQ(cut.offset, part.out_begin * 8);
  EXPECT_EQ(cut.nbytes, part.out_count * 8);
  ls_stored scalar = make<ls_stored>();  // repeated for each part
  const SavedTensor repeated = detail::cut_for_part(seen, scalar, 4, 2);
  EXPECT_EQ(repeated.offset, 0u);
  EXPECT_EQ(repeated.nbytes, 4u);
}

TEST_F(WrapperTest, EveryExceptionBecomesAStatusWithText) {
  plugin::forget_failure();
  EXPECT_EQ(guarded([] { fail(LS_UNSUPPORTED, "not this one"); }), LS_UNSUPPORTED);
  EXPECT_EQ(plugin::take_failure(), "not this one");
  EXPECT_EQ(guarded([] { throw std::bad_alloc(); }), LS_RESOURCE);
  EXPECT_EQ(plugin::take_failure(), "out of memory");
  EXPECT_EQ(guarded([] { throw std::runtime_error("odd"); }), LS_INTERNAL);
  EXPECT_EQ(plugin::take_failure(), "odd");
  EXPECT_EQ(guarded([] { throw 1; }), LS_INTERNAL);
  EXPECT_EQ(plugin::take_failure(), "exception of unknown type");
  EXPECT_EQ(guarded([] {}), LS_OK);
}

TEST_F(WrapperTest, ErrorsOfLentThreadsAreTheLowestOne) {
  ThreadPool pool(4);
  plugin::set_host_threads(&pool);
  for (int round = 0; round < 20; ++round) {
    try {
      parallel_for(100, [](uint64_t i) {
        if (i % 7 == 3) fail(LS_INVALID_CHECKPOINT, "row " + std::to_string(i));
      });
      FAIL() << "nothing thrown";
    } catch (const Failure& failure) {
      EXPECT_STREQ(failure.what(), "row 3");
    }
  }
  plugin::set_host_threads(nullptr);
}

TEST_F(WrapperTest, DeclarationsEscapeTexts) {
  ls_value text = make<ls_value>();
  text.type = LS_FIELD_TEXT;
  text.name = "note";
  text.text = "a \"b\" \\ \n";
  ls_value number = make<ls_value>();
  number.type = LS_FIELD_NUMBER;
  number.name = "x";
  number.number = 0.1;
  const ls_value* const values[] = {&text, &number};
  const std::string json = detail::declaration_json("mine", Values(values, 2));
  const auto parsed = parse_json(json, "");
  ASSERT_TRUE(parsed.ok()) << json;
  EXPECT_EQ(parsed->find("note")->text(), "a \"b\" \\ \n");
  EXPECT_EQ(parsed->find("x")->number(), 0.1);
  EXPECT_EQ(parsed->find("quant_method")->text(), "mine");
}

}  // namespace
}  // namespace loadstone::sdk
