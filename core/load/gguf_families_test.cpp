// Every family with a name adapter: what quantize writes as GGUF, in original names, loads to the
// bytes that load-time quantization gives the family's modules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <loadstone/loadstone.hpp>

#include "load/pipeline.hpp"
#include "load/quantize.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

fs::path shared_folder() {
  const char* given = std::getenv("LOADSTONE_SHARED");
  return given != nullptr ? given : LOADSTONE_SOURCE_DIR "/../shared";
}

/// Stored bytes by "module.tensor", in the family's names; a fused layer's are cut by its parts.
using Modules = std::map<std::string, std::string>;

void add(const load::LoadedModel& model, uint32_t index, Modules& out) {
  const plan::LayerPlan& plan = model.plan().layers[index];
  const graph::Layer& layer = model.plan().layer_of(plan);
  for (uint32_t s = 0; s < plan.stored.size(); ++s) {
    const plan::Stored& stored = plan.stored[s];
    const std::string bytes(reinterpret_cast<const char*>(model.stored(index, s)), stored.nbytes);
    const std::string tail = "." + stored.name + ":" + std::string(name_of(stored.dtype));
    if (layer.parts.size() == 1) {
      out[layer.parts[0].path + tail] += bytes;
      continue;
    }
    const size_t row = bytes.size() / layer.out;
    for (const graph::Part& part : layer.parts) {
      out[part.path + tail] += bytes.substr(part.out_begin * row, part.out_count * row);
    }
  }
}

Modules modules_of(const load::LoadedModel& model) {
  Modules out;
  for (uint32_t i = 0; i < model.plan().layers.size(); ++i) {
    const auto& layer = model.plan().layer_of(model.plan().layers[i]);
    if (model.plan().graph.components[layer.component].name == "transformer") add(model, i, out);
  }
  return out;
}

/// The same with the modules that one tensor of the file holds joined, as `held` has them.
Modules joined(const Modules& apart, const plan::Plan& held) {
  Modules out = apart;
  for (const plan::LayerPlan& plan : held.layers) {
    const graph::Layer& layer = held.layer_of(plan);
    if (layer.holds.size() < 2) continue;
    for (const plan::Stored& stored : plan.stored) {
      const std::string tail = "." + stored.name + ":" + std::string(name_of(stored.dtype));
      std::string all;
      for (const std::string& module : layer.holds) {
        if (!out.contains(module + tail)) continue;
        all += out.at(module + tail);
        out.erase(module + tail);
      }
      if (!all.empty()) out[layer.parts[0].path + tail] = all;
    }
  }
  return out;
}

class GgufFamilies : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "gguf_families_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    auto opened =
        Loader::open({{LOADSTONE_BINARY_DIR "/plugins"}, LOADSTONE_SOURCE_DIR "/model_adapters"});
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    loader_ = std::make_unique<Loader>(std::move(opened).value());
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::shared_ptr<const load::LoadedModel> load(const config::PipelineConfig& config) {
    auto plan = loader_->plan(config);
    EXPECT_TRUE(plan.ok()) << plan.error().text();
    if (!plan.ok()) return nullptr;
    auto model = loader_->load(*plan);
    EXPECT_TRUE(model.ok()) << model.error().text();
    return model.ok() ? *model : nullptr;
  }

  /// False: the family has no name adapter.
  bool try_folder(const fs::path& folder, const std::string& type) {
    const std::string text = "version: 1\nmodel: \"" + folder.string() +
                             "\"\nquantization: {transformer: {method: gguf, type: " + type +
                             "}}\nrules: [{component: transformer, layer: \"norm_out.linear\", "
                             "use: {method: gguf, type: " +
                             type + "}}]\nallow_unmatched: true\non_unsupported: keep\n";
    const auto config = loader_->parse_config(text, "test.yaml");
    EXPECT_TRUE(config.ok()) << config.error().text();
    auto checkpoint = load::open_model(system_files(), *config);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.error().text();
    auto graph = graph::build_graph(**checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters");
    EXPECT_TRUE(graph.ok()) << graph.error().text();
    const std::string output = (folder_ / (folder.filename().string() + type)).string();
    const auto report = load::quantize(*checkpoint, *std::move(graph), config->quantization,
                                       loader_->registry(), {output, false});
    if (!report.ok()) {
      EXPECT_THAT(report.error().text(),
                  HasSubstr("expected the transformer of flux1, flux2, qwen_image or z_image"));
      return false;
    }
    const auto now = load(*config);
    expect_equal(now, load(*loader_->make_config(output)));
    expect_equal(now, load(with_file(folder, "transformer", output + "/transformer:" + type)));
    return true;
  }

  /// A base model whose component comes from a GGUF file.
  config::PipelineConfig with_file(const fs::path& base, const std::string& component,
                                   const std::string& reference) {
    auto config = loader_->parse_config(
        "version: 1\nmodel: \"" + base.string() + "\"\nquantization: {" + component +
            ": {method: gguf, gguf_model: \"" + reference + "\"}}\n",
        "test.yaml");
    EXPECT_TRUE(config.ok()) << config.error().text();
    return *std::move(config);
  }

  void expect_equal(const std::shared_ptr<const load::LoadedModel>& now,
                    const std::shared_ptr<const load::LoadedModel>& again) {
    if (now == nullptr || again == nullptr) return;
    const Modules expected = joined(modules_of(*now), again->plan());
    const Modules found = modules_of(*again);
    EXPECT_EQ(found.size(), expected.size());
    for (const auto& [name, bytes] : expected) {
      const auto at = found.find(name);
      EXPECT_TRUE(at != found.end() && at->second == bytes) << name;
    }
    tensors_ += expected.size();
  }

  fs::path folder_;
  std::unique_ptr<Loader> loader_;
  size_t tensors_ = 0;
};

TEST_F(GgufFamilies, WhatIsWrittenLoadsToTheBytesOfLoadTimeQuantization) {
  const fs::path models = shared_folder() / "models/families";
  if (!fs::exists(models)) GTEST_SKIP() << "no " << models << ": set LOADSTONE_SHARED";
  size_t folders = 0;
  for (const auto& entry : fs::directory_iterator(models)) {
    if (!fs::exists(entry.path() / "transformer")) continue;
    SCOPED_TRACE(entry.path().string());
    for (const char* type : {"Q8_0", "Q4_0", "MXFP4"}) folders += try_folder(entry.path(), type);
  }
  std::cout << folders << " models written, " << tensors_ << " tensors equal\n";
  EXPECT_GT(folders, 0u);
}

}  // namespace
}  // namespace loadstone
