// A plugin compiled once and kept (tests/data/kept_plugin) goes its whole way with today's host.
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <loadstone/loadstone.hpp>

#include "conformance/conformance.hpp"
#include "conformance/engine.hpp"
#include "plugin/sinks.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;
using conformance::CaseView;
using conformance::LayerCase;
using conformance::Layout;
using conformance::Produced;
using ::testing::HasSubstr;

/// The binary in a folder of its own that nobody else can write.
class KeptPlugin : public ::testing::Test {
 protected:
  void SetUp() override {
#if !defined(__x86_64__)
    GTEST_SKIP() << "the kept plugin is for x86-64";
#endif
    const fs::path kept = std::string(LOADSTONE_SOURCE_DIR) + "/tests/data/kept_plugin";
    folder_ = ::testing::TempDir() + "/kept_plugin_" + std::to_string(::getpid());
    fs::create_directories(folder_);
    for (const char* name : {"kept8.so", "kept8.info"}) {
      fs::copy_file(kept / name, folder_ / name, fs::copy_options::overwrite_existing);
      fs::permissions(folder_ / name, fs::perms::owner_all);
    }
    fs::permissions(folder_, fs::perms::owner_all);
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }

  std::string library() const { return (folder_ / "kept8.so").string(); }

  std::shared_ptr<const plugin::MethodConfig> config(int64_t bits,
                                                     const std::vector<std::string>& ignored = {}) {
    auto registry = plugin::Registry::scan({{folder_.string()}, false});
    EXPECT_TRUE(registry.ok()) << registry.error().text();
    auto method = registry->method("kept-integer");  // by its alias
    EXPECT_TRUE(method.ok()) << method.error().text();
    config::MethodChoice choice;
    choice.method = "kept8";
    choice.fields["bits"] = {Node::of_integer(bits), config::From::user};
    std::vector<Node> entries;
    for (const std::string& entry : ignored) entries.push_back(Node::of_text(entry));
    choice.fields["ignored_layers"] = {Node::of_list(entries), config::From::user};
    auto made = plugin::MethodConfig::make(*method, choice);
    EXPECT_TRUE(made.ok()) << made.error().text();
    return *made;
  }

  /// Three modules in one layer, bf16.
  static LayerCase fused(conformance::Content content = conformance::Content::normal) {
    conformance::Random random(5);
    return make_case({LS_KIND_LINEAR, Layout::fused, 96, 64, LS_DTYPE_BF16, content, /*bias=*/true},
                     random);
  }

  fs::path folder_;
};

/// A layer's way up to its stored tensors; empty after a failure.
struct Made {
  explicit Made(const plugin::MethodConfig& config, const LayerCase& layer)
      : view(layer), answer(conformance::ask(config, view)) {
    if (!answer.ok()) return;
    conformance::Feeding feeding;
    feeding.cut = conformance::Cut::random;
    feeding.threads = 2;
    feeding.awkward = true;
    produced.emplace(conformance::produce(config, view, *answer, feeding));
  }
  CaseView view;
  Result<plugin::LayerAnswer> answer;
  std::optional<Result<Produced>> produced;
};

/// The definition of kept8.c, once more: codes and a scale a part.
void expected_bytes(const LayerCase& layer, int levels, std::vector<int8_t>& codes,
                    std::vector<float>& scales) {
  codes.resize(layer.out * layer.in);
  for (const conformance::CasePart& part : layer.parts) {
    const float* first = layer.truth.data() + part.out_begin * layer.in;
    const uint64_t count = part.out_count * layer.in;
    float largest = 0;
    for (uint64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(first[i]));
    const float scale = largest / static_cast<float>(levels);
    scales.push_back(scale < 0x1p-126f ? 1.0f : scale);
    for (uint64_t i = 0; i < count; ++i) {
      codes[part.out_begin * layer.in + i] = static_cast<int8_t>(std::clamp(
          std::nearbyint(first[i] / scales.back()), -static_cast<float>(levels), float(levels)));
    }
  }
}

TEST_F(KeptPlugin, HasTheTablesOfInterface01) {
  void* handle = dlopen(library().c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  const auto query = reinterpret_cast<ls_plugin_query_fn>(dlsym(handle, "loadstone_plugin_query"));
  ASSERT_NE(query, nullptr);
  const ls_plugin* plugin = query(&plugin::host_table());
  ASSERT_NE(plugin, nullptr);
  // Numbers, not sizeof: what this binary was compiled with.
  EXPECT_EQ(plugin->struct_size, 56u);
  EXPECT_EQ(plugin->abi_major, 0u);
  EXPECT_EQ(plugin->abi_minor, 1u);
  EXPECT_EQ(plugin->methods[0]->struct_size, 240u);
  EXPECT_EQ(plugin->methods[0]->fields[0]->struct_size, 72u);
  EXPECT_EQ(plugin->methods[0]->claims[0]->struct_size, 40u);
}

TEST_F(KeptPlugin, PlansTwoPassesOverEachPart) {
  const auto config = this->config(5);
  const LayerCase layer = fused();
  CaseView view(layer);
  const auto answer = conformance::ask(*config, view);
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  EXPECT_EQ(answer->work.verdict, uint32_t{LS_VERDICT_QUANTIZE});
  EXPECT_EQ(answer->work.passes, 2u);
  EXPECT_EQ(answer->work.stat_nbytes, 12u);
  EXPECT_EQ(answer->work.note, 5u);
  EXPECT_EQ(answer->kernel, "kept8_blockwise");
  EXPECT_THAT(answer->stored_names, ::testing::ElementsAre("weight", "weight_scale"));
  EXPECT_EQ(answer->sources.size(), 3u);
}

TEST_F(KeptPlugin, QuantizesToItsDefinitionsBytes) {
  for (const int bits : {2, 5, 8}) {
    const LayerCase layer = fused();
    const Made made(*config(bits), layer);
    ASSERT_TRUE(made.answer.ok()) << made.answer.error().text();
    ASSERT_TRUE(made.produced->ok()) << made.produced->error().text();
    std::vector<int8_t> codes;
    std::vector<float> scales;
    expected_bytes(layer, (1 << (bits - 1)) - 1, codes, scales);
    const auto& stored = (*made.produced)->stored;
    ASSERT_EQ(stored[0].nbytes(), codes.size());
    EXPECT_EQ(std::memcmp(stored[0].data(), codes.data(), codes.size()), 0) << bits;
    ASSERT_EQ(stored[1].nbytes(), scales.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(stored[1].data(), scales.data(), stored[1].nbytes()), 0) << bits;
  }
}

TEST_F(KeptPlugin, DequantizesAndMultiplies) {
  const auto config = this->config(8);
  const LayerCase layer = fused();
  const Made made(*config, layer);
  ASSERT_TRUE(made.produced && made.produced->ok());
  const auto weight = dequantize_all(*config, made.view, *made.answer, **made.produced);
  ASSERT_TRUE(weight.ok()) << weight.error().text();
  std::vector<int8_t> codes;
  std::vector<float> scales;
  expected_bytes(layer, 127, codes, scales);
  for (size_t p = 0; p < layer.parts.size(); ++p) {
    const auto& part = layer.parts[p];
    for (uint64_t i = part.out_begin * layer.in; i < (part.out_begin + part.out_count) * layer.in;
         ++i) {
      ASSERT_EQ((*weight)[i], static_cast<float>(codes[i]) * scales[p]);
    }
  }

  const auto bound = conformance::Bound::bind(*config, made.view, *made.answer, **made.produced);
  ASSERT_TRUE(bound.ok()) << bound.error().text();
  conformance::Call call;
  call.m = 3;
  call.x_pad = 2;
  call.bias = true;
  conformance::Random random(9);
  for (uint64_t i = 0; i < call.m * layer.in; ++i) call.x.push_back(random.normal());
  for (uint64_t i = 0; i < layer.out; ++i) call.bias_values.push_back(random.normal());
  const auto y = bound->apply(call);
  ASSERT_TRUE(y.ok()) << y.error().text();
  for (uint64_t i = 0; i < call.m; ++i) {
    for (uint64_t j = 0; j < layer.out; ++j) {
      double sum = call.bias_values[j];
      for (uint64_t k = 0; k < layer.in; ++k) {
        sum += double{call.x[i * layer.in + k]} * double{(*weight)[j * layer.in + k]};
      }
      ASSERT_NEAR((*y)[i * layer.out + j], sum, 1e-5);
    }
  }
}

TEST_F(KeptPlugin, RefusalsArriveWithTheirText) {
  const LayerCase layer = fused(conformance::Content::nan);
  const Made made(*config(8), layer);
  ASSERT_TRUE(made.answer.ok());
  ASSERT_FALSE(made.produced->ok());
  EXPECT_EQ(made.produced->error().code, Code::invalid_checkpoint);
  EXPECT_THAT(made.produced->error().text(), HasSubstr("weight is not finite"));
}

TEST_F(KeptPlugin, IgnoredLayersAskTheHostForPatterns) {
  const LayerCase layer = fused();  // blocks.7.attn.proj of block.to_q, block.to_k, block.to_v
  const CaseView view(layer);
  const auto entry = [&](const std::string& pattern) -> std::string {
    const auto config = this->config(8, {pattern});
    const char* found = nullptr;
    const int32_t status = plugin::call_plugin(
        [&] { return config->method().table().ignored(config->handle(), &view.get(), &found); });
    if (status != LS_OK) return plugin::take_failure();
    return found == nullptr ? "none" : found;
  };
  EXPECT_EQ(entry("attn"), "attn");
  EXPECT_EQ(entry("block.to_?"), "block.to_?");
  EXPECT_EQ(entry("re:block.to_[qkv]$"), "re:block.to_[qkv]$");
  EXPECT_EQ(entry("re:to_[qkv]$"), "none");
  EXPECT_EQ(entry("mlp"), "none");
  EXPECT_EQ(entry("to_q"), "ignored_layers names some parts of a fused layer");
}

TEST_F(KeptPlugin, ReadsItsDeclaration) {
  auto registry = plugin::Registry::scan({{folder_.string()}, false});
  ASSERT_TRUE(registry.ok()) << registry.error().text();
  const plugin::Claim* claim = registry->claim_for("quantization_config", "kept8", "", "");
  ASSERT_NE(claim, nullptr);
  const auto declared = parse_json(
      R"({"quant_method": "kept8", "bits": 6, "modules_to_not_convert": ["a", "b"]})", "");
  const auto read = registry->read_declaration(*claim, *declared);
  ASSERT_TRUE(read.ok()) << read.error().text();
  ASSERT_EQ(read->fields.size(), 1u);
  EXPECT_EQ(read->fields[0].name, "bits");
  EXPECT_EQ(read->fields[0].value.integer(), 6);
  ASSERT_EQ(read->scopes.size(), 2u);
  EXPECT_EQ(read->scopes[1].pattern, "b");
  EXPECT_EQ(read->scopes[1].style, uint32_t{LS_STYLE_SEGMENTS});
  EXPECT_TRUE(read->scopes[1].keep);
}

TEST_F(KeptPlugin, PassesTodaysKit) {
  const auto report = conformance::check(library());
  ASSERT_TRUE(report.ok()) << report.error().text();
  EXPECT_TRUE(report->passed()) << report->text();
  for (const conformance::Point& point : report->points) {
    if (point.name == "repack") continue;
    EXPECT_EQ(point.outcome, conformance::Outcome::passed) << point.name;
  }
}

TEST_F(KeptPlugin, LoadsAModel) {
  auto loader =
      Loader::open({{folder_.string()}, std::string(LOADSTONE_SOURCE_DIR) + "/model_adapters"});
  ASSERT_TRUE(loader.ok()) << loader.error().text();
  const auto config =
      loader->make_config(std::string(LOADSTONE_SOURCE_DIR) + "/examples/models/emoji", "kept8");
  ASSERT_TRUE(config.ok()) << config.error().text();
  const auto plan = loader->plan(*config);
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  const auto model = loader->load(*plan);
  ASSERT_TRUE(model.ok()) << model.error().text();
  const auto scale =
      find_stored(**model, "transformer", "transformer_blocks.0.attn.to_qkv", "weight_scale");
  ASSERT_TRUE(scale.ok()) << scale.error().text();
  EXPECT_THAT(scale->what->shape, ::testing::ElementsAre(3u));
}

}  // namespace
}  // namespace loadstone
