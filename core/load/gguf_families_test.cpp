// Every family with a name adapter: what quantize writes as GGUF, in original names, loads to the
// bytes that load-time quantization gives the family's modules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <loadstone/loadstone.hpp>

#include "base/testing/shared.hpp"
#include "formats/gguf_writer.hpp"
#include "formats/testing/containers.hpp"
#include "load/pipeline.hpp"
#include "load/quantize.hpp"
#include "load/rows.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

  /// The model as Q8_0, in a folder.
  std::string written(const std::string& model) {
    const std::string output = (folder_ / "written").string();
    const auto config = loader_->make_config(model, R"({"method": "gguf", "type": "Q8_0"})");
    auto checkpoint = load::open_model(system_files(), *config);
    auto graph = graph::build_graph(**checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters");
    const auto report = load::quantize(*checkpoint, *std::move(graph), config->quantization,
                                       loader_->registry(), {output, false});
    EXPECT_TRUE(report.ok()) << report.error().text();
    return output;
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
  const fs::path models = testing::shared_folder() / "models/families";
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

/// A layer's weight in float32, whatever holds it.
std::vector<float> weight_of(const load::LoadedModel& model, uint32_t index) {
  const plan::LayerPlan& layer = model.plan().layers[index];
  if (layer.decision != plan::Decision::quantize) {
    const int64_t stored = layer.find_stored("weight");
    if (stored < 0 || layer.stored[static_cast<size_t>(stored)].dtype != DType::F32) return {};
    const auto at = static_cast<uint32_t>(stored);
    const auto* values = reinterpret_cast<const float*>(model.stored(index, at));
    return {values, values + layer.stored[at].nbytes / sizeof(float)};
  }
  std::vector<const std::byte*> stored;
  for (uint32_t i = 0; i < layer.stored.size(); ++i) stored.push_back(model.stored(index, i));
  const auto rows = load::WeightRows::open(model.plan(), layer, std::move(stored));
  EXPECT_TRUE(rows.ok()) << rows.error().text();
  const uint64_t out = model.plan().layer_of(layer).out;
  std::vector<float> values(out * rows->columns());
  ThreadPool pool(1);
  EXPECT_TRUE(rows->read(0, 0, out, false, values, pool).ok());
  return values;
}

/// Weights by module in the family's names; of what one tensor holds, joined.
std::map<std::string, std::vector<float>> weights_of(const load::LoadedModel& model) {
  std::map<std::string, std::vector<float>> out;
  for (uint32_t i = 0; i < model.plan().layers.size(); ++i) {
    const graph::Layer& layer = model.plan().layer_of(model.plan().layers[i]);
    const std::vector<float> values = weight_of(model, i);
    if (layer.parts.size() == 1) {
      out[layer.parts[0].path] = values;
      continue;
    }
    const size_t row = values.size() / layer.out;
    for (const graph::Part& part : layer.parts) {
      const auto begin = values.begin() + static_cast<int64_t>(part.out_begin * row);
      out[part.path].assign(begin, begin + static_cast<int64_t>(part.out_count * row));
    }
  }
  return out;
}

/// sqrt(sum (a-b)^2 / sum b^2)
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}

TEST_F(GgufFamilies, FilesOfOtherToolsGiveTheBaseModelsWeights) {
  const fs::path checkpoints = testing::shared_folder() / "checkpoints";
  if (!fs::exists(checkpoints)) GTEST_SKIP() << "no " << checkpoints << ": set LOADSTONE_SHARED";
  size_t files = 0, weights = 0;
  for (const auto& entry : fs::directory_iterator(checkpoints / "gguf")) {
    const auto expect = read_text(system_files(), (entry.path() / "expect.json").string(), 1 << 20);
    if (!expect.ok()) continue;
    const auto parsed = parse_json(*expect, "expect.json");
    ASSERT_TRUE(parsed.ok()) << parsed.error().text();
    const Node* source = parsed->find("source");
    const fs::path base = checkpoints / "source" / (source ? source->text() : "");
    if (source == nullptr || !fs::exists(base / "config.json")) continue;
    std::vector<std::string> names;  // the first part of a set says all
    for (const auto& file : fs::directory_iterator(entry.path())) {
      if (file.path().extension() == ".gguf") names.push_back(file.path().string());
    }
    SCOPED_TRACE(names.at(0));
    auto config = with_file(base, "transformer", *std::min_element(names.begin(), names.end()));
    auto plain = loader_->make_config(base.string());
    config.load.dtype = plain->load.dtype = "f32";
    if (!graph::build_graph(**load::open_model(system_files(), *plain),
                            LOADSTONE_SOURCE_DIR "/model_adapters")
             ->family_known) {
      continue;
    }
    const auto file_model = load(config), base_model = load(*plain);
    ASSERT_TRUE(file_model != nullptr && base_model != nullptr);
    const auto found = weights_of(*file_model);
    auto expected = weights_of(*base_model);
    for (const plan::LayerPlan& plan : file_model->plan().layers) {
      const graph::Layer& layer = file_model->plan().layer_of(plan);
      std::vector<float> whole;
      for (const std::string& module : layer.holds) {
        whole.insert(whole.end(), expected[module].begin(), expected[module].end());
      }
      if (layer.holds.size() > 1) expected[layer.parts[0].path] = whole;
    }
    for (const auto& [module, values] : found) {
      ASSERT_EQ(values.size(), expected[module].size()) << module;
      EXPECT_LT(relative_error(values, expected[module]), 0.2) << module;
      ++weights;
    }
    ++files;
  }
  std::cout << files << " files, " << weights << " weights near their base model's\n";
  EXPECT_GT(files, 0u);
}

TEST_F(GgufFamilies, RefusesWhatIsNoComponentsFile) {
  const std::string model = LOADSTONE_SOURCE_DIR "/examples/models/emoji";
  const auto refusal = [&](const std::string& text) {
    const auto config =
        loader_->parse_config("version: 1\nmodel: \"" + model + "\"\n" + text, "test.yaml");
    if (!config.ok()) return config.error().text();
    const auto plan = loader_->plan(*config);
    return plan.ok() ? std::string("planned") : plan.error().text();
  };
  EXPECT_EQ(refusal("quantization: {default: {method: gguf, gguf_model: a/b.gguf}}\n"),
            "gguf_model without a component: test.yaml:3:52: found it for \"default\", expected it "
            "for one component, such as transformer");
  EXPECT_EQ(refusal("quantization: {method: gguf, gguf_model: b.gguf}\n"),
            "gguf_model rejected: test.yaml:3:42: \"b.gguf\": found no such file, expected a file, "
            "REPO/FILE.gguf or REPO:TYPE");
  EXPECT_EQ(refusal("rules: [{layer: \"*\", use: {method: gguf, gguf_model: a/b.gguf}}]\n"),
            "gguf_model without a component: test.yaml:3:54: found it in a rule, expected it for "
            "one component, such as transformer");
  EXPECT_THAT(refusal("quantization: {method: gguf, gguf_model: \"" + model +
                      "/vae/diffusion_pytorch_model.safetensors\"}\n"),
              HasSubstr("found another container, expected GGUF"));
  EXPECT_THAT(refusal("quantization: {decoder: {method: gguf, gguf_model: \"" + model +
                      "/model_index.json\"}}\n"),
              HasSubstr("found gguf_model for \"decoder\", expected it for text_encoder, "));
}

TEST_F(GgufFamilies, AComponentWithoutANameAdapterIsAnError) {
  const std::string model = LOADSTONE_SOURCE_DIR "/examples/models/emoji";
  const std::string output = written(model);
  const std::string file = output + "/transformer/qwen-image-Q8_0.gguf";
  const auto plan = loader_->plan(with_file(model, "vae", file));
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().text(),
            "no name adapter for GGUF: " + file +
                ": found component \"vae\" of family \"qwen_image\", expected the transformer of "
                "flux1, flux2, qwen_image or z_image");
  // The same as part of a folder, or from `components:`.
  auto other = *loader_->make_config(model);
  other.components.push_back({"vae", file, {}});
  EXPECT_THAT(loader_->plan(other).error().text(), HasSubstr("no name adapter for GGUF"));
}

TEST_F(GgufFamilies, AFileMayStandUnderComponentsToo) {
  const std::string model = LOADSTONE_SOURCE_DIR "/examples/models/emoji";
  const std::string file = written(model) + "/transformer/qwen-image-Q8_0.gguf";
  auto config = *loader_->make_config(model);
  config.components.push_back({"transformer", file, {}});
  expect_equal(load(with_file(model, "transformer", file)), load(config));
  EXPECT_GT(tensors_, 0u);
}

TEST_F(GgufFamilies, UnquantizedModulesDecodeAndMustMatch) {
  const std::string output = written(LOADSTONE_SOURCE_DIR "/examples/models/emoji");
  auto plan = loader_->plan(
      *loader_->make_config(output, R"({"method": "gguf", "unquantized_modules": ["img_mlp"]})"));
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  size_t decoded = 0;
  for (const plan::LayerPlan& layer : (*plan)->layers) {
    const std::string& path = (*plan)->layer_of(layer).path;
    if (layer.decision != plan::Decision::decode) continue;
    EXPECT_THAT(path, HasSubstr(".img_mlp."));
    EXPECT_THAT(layer.reason, HasSubstr("unquantized_modules entry \"img_mlp\""));
    ++decoded;
  }
  EXPECT_EQ(decoded, 8u);  // two in each of four blocks
  plan = loader_->plan(
      *loader_->make_config(output, R"({"method": "gguf", "unquantized_modules": ["img_mpl"]})"));
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().text(),
            "unquantized_modules entry matches no layer: --quantization:1:44: found \"img_mpl\", "
            "expected a layer that gguf would quantize; did you mean \"img_mlp\"?");
}

/// A GGUF file of such tensors, all zero.
std::string zeros(const fs::path& path, std::span<const formats::TensorSpec> tensors) {
  auto writer = formats::GgufWriter::create(path.string(), tensors, {});
  EXPECT_TRUE(writer.ok()) << writer.error().text();
  for (const formats::TensorSpec& tensor : tensors) {
    const std::vector<std::byte> bytes(*plan::tensor_nbytes(tensor.dtype, tensor.shape));
    EXPECT_TRUE(writer->append(bytes).ok());
  }
  EXPECT_TRUE(writer->finish().ok());
  return path.string();
}

std::vector<formats::TensorSpec> without(const std::vector<formats::TensorSpec>& tensors,
                                         const std::string& beginning) {
  std::vector<formats::TensorSpec> out;
  for (const formats::TensorSpec& one : tensors) {
    if (!one.name.starts_with(beginning)) out.push_back(one);
  }
  return out;
}

TEST_F(GgufFamilies, S31_AFileHasTheBaseModelsModulesAndNoOthers) {
  const std::string model = LOADSTONE_SOURCE_DIR "/examples/models/emoji";
  const auto whole = formats::open_checkpoint(system_files(), written(model) + "/transformer");
  ASSERT_TRUE(whole.ok()) << whole.error().text();
  std::vector<formats::TensorSpec> specs;
  for (const auto& tensor : whole->components[0].tensors) {
    const formats::TensorSpec spec = {tensor.name, tensor.dtype, tensor.shape};
    specs.push_back(spec);
  }
  const auto refusal = [&](const std::vector<formats::TensorSpec>& tensors) {
    const std::string file = zeros(folder_ / "x.gguf", tensors);
    const auto plan = loader_->plan(with_file(model, "transformer", file));
    return plan.ok() ? std::string("planned") : plan.error().text();
  };
  const auto named = [&](std::vector<formats::TensorSpec>& all, const std::string& name) {
    return std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.name == name; });
  };
  EXPECT_EQ(refusal(specs), "planned");
  const std::string where = "file doesn't fit its base model: " + model +
                            ": transformer: " + (folder_ / "x.gguf").string() + ": found ";
  const std::string base = " of " + model + "/transformer";

  {
    EXPECT_EQ(refusal(without(specs, "proj_out.")),
              where +
                  "no tensors for 1 modules (\"proj_out\"), expected [64, 256] for "
                  "\"proj_out.weight\"" +
                  base);
  }
  {
    auto some = specs;
    const formats::TensorSpec extra = {"distilled_guidance.weight", DType::F32, {2, 2}};
    some.push_back(extra);
    EXPECT_EQ(refusal(some), where +
                                 "1 modules (\"distilled_guidance\") beyond, expected only the "
                                 "modules" +
                                 base);
  }
  {
    auto some = specs;
    const auto weight = named(some, "proj_out.weight");
    ASSERT_NE(weight, some.end());
    const std::string rows = std::to_string(weight->shape[0]);
    const std::string row = std::to_string(weight->shape[1]);
    const std::string elems = std::to_string(weight->shape[0] * weight->shape[1]);
    std::swap(weight->shape[0], weight->shape[1]);
    EXPECT_EQ(refusal(some), where + elems + " elements, " + rows + " a row, a bias of " + rows +
                                 " for \"proj_out\", expected " + elems + " elements, " + row +
                                 " a row, a bias of " + rows + base);
  }
  EXPECT_THAT(refusal(without(specs, "proj_out.bias")),
              HasSubstr("no bias for \"proj_out\", expected "));
}

TEST_F(GgufFamilies, S31_ATensorThatNoLayerReadsIsAnError) {
  const formats::TensorSpec tensors[] = {{"a.weight", ggml_dtype(8), {4, 32}},
                                         {"a.weight_scale", DType::F32, {4}}};
  const std::string file = zeros(folder_ / "x.gguf", tensors);
  const auto plan = loader_->plan(*loader_->make_config(file));
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(
      plan.error().text(),
      HasSubstr("a: tensor beside ggml blocks: \"weight_scale\" (part 0): found it, expected "
                "a weight and a bias"));
}

TEST_F(GgufFamilies, AFileByItselfGoesByItsOwnNames) {
  const formats::TensorSpec tensors[] = {{"blk.0.attn_q.weight", ggml_dtype(8), {4, 32}},
                                         {"blk.0.attn_norm.weight", DType::F32, {4}}};
  const std::string file = zeros(folder_ / "x.gguf", tensors);
  const auto plan = loader_->plan(*loader_->make_config(file));
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_EQ((*plan)->layers.size(), 2u);
  const std::string output = (folder_ / "floats").string();
  const auto report = loader_->dequantize(file, {output}, {});
  ASSERT_TRUE(report.ok()) << report.error().text();
  const auto floats = formats::open_checkpoint(system_files(), output + "/model.safetensors");
  ASSERT_TRUE(floats.ok()) << floats.error().text();
  EXPECT_NE(floats->components[0].find("blk.0.attn_q.weight"), nullptr);
  EXPECT_NE(floats->components[0].find("blk.0.attn_norm.weight"), nullptr);
}

TEST_F(GgufFamilies, AReshapedTensorIsWrittenInItsTrueShape) {
  const std::string file = (folder_ / "x.gguf").string();
  // Q8_0 and F32.
  std::ofstream(file, std::ios::binary) << formats::testing::Gguf()
                                               .i32s("comfy.gguf.orig_shape.a.weight", {2, 4, 2, 4})
                                               .i32s("comfy.gguf.orig_shape.b.weight", {3, 1, 2})
                                               .tensor("a.weight", {32, 2}, 8, 68)
                                               .tensor("b.weight", {6}, 0, 24)
                                               .bytes();
  const std::string output = (folder_ / "floats").string();
  const auto report = loader_->dequantize(file, {output}, {});
  ASSERT_TRUE(report.ok()) << report.error().text();
  const auto floats = formats::open_checkpoint(system_files(), output + "/model.safetensors");
  ASSERT_TRUE(floats.ok()) << floats.error().text();
  EXPECT_THAT(floats->components[0].find("a.weight")->shape, ElementsAre(2, 4, 2, 4));
  EXPECT_THAT(floats->components[0].find("b.weight")->shape, ElementsAre(3, 1, 2));
}

}  // namespace
}  // namespace loadstone
