// The public header, as an embedder uses it: the example model through the built fp8 plugin.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <loadstone/loadstone.hpp>

#include "base/testing/faulty_file.hpp"
#include "formats/safetensors_writer.hpp"

namespace loadstone {

namespace {

namespace fs = std::filesystem;

const std::string kModel = LOADSTONE_SOURCE_DIR "/examples/models/emoji";

class Embedding : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened =
        Loader::open({{LOADSTONE_BINARY_DIR "/plugins"}, LOADSTONE_SOURCE_DIR "/model_adapters"});
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    loader_ = std::make_unique<Loader>(std::move(opened).value());
  }

  std::shared_ptr<const load::LoadedModel> load(const config::PipelineConfig& config) {
    auto plan = loader_->plan(config);
    if (!plan.ok()) {
      ADD_FAILURE() << plan.error().text();
      return nullptr;
    }
    auto model = loader_->load(*plan);
    if (!model.ok()) ADD_FAILURE() << model.error().text();
    return model.ok() ? *model : nullptr;
  }

  static const plan::LayerPlan* first(const plan::Plan& plan, plan::Decision decision) {
    for (const plan::LayerPlan& layer : plan.layers) {
      if (layer.decision == decision && layer.stored.size() > 1) return &layer;
    }
    return nullptr;
  }

  std::unique_ptr<Loader> loader_;
};

TEST_F(Embedding, ExampleModelLoadsQuantizedAsPlanned) {
  auto config = loader_->make_config(kModel, "fp8");
  ASSERT_TRUE(config.ok()) << config.error().text();
  auto model = load(*config);
  ASSERT_NE(model, nullptr);
  const load::Report& report = model->report();
  uint64_t predicted = report.predicted_peak_host, measured = report.measured_peak_host;
  EXPECT_LE(measured, predicted + std::max<uint64_t>(predicted / 50, 16u << 20));
  EXPECT_LE(predicted, measured + std::max<uint64_t>(measured / 10, 64u << 20));
  const plan::Plan& plan = model->plan();
  const plan::LayerPlan* layer = first(plan, plan::Decision::quantize);
  ASSERT_NE(layer, nullptr);
  EXPECT_EQ(layer->method, "fp8");
  const auto& shape = plan.layer_of(*layer);
  auto found =
      find_stored(*model, plan.graph.components[shape.component].name, shape.path, "weight");
  ASSERT_TRUE(found.ok()) << found.error().text();
  EXPECT_EQ(found->what->dtype, DType::F8_E4M3);

  auto view = dlpack::view_of(model, found->layer, found->stored);
  ASSERT_TRUE(view.ok()) << view.error().text();
  const std::byte* at = found->at;
  model.reset();  // the view keeps the bytes
  dlpack::managed_tensor* tensor = *view;
  EXPECT_EQ(tensor->view.at, at);
  EXPECT_EQ(tensor->view.type.code, dlpack::kFloat8E4M3Fn);
  EXPECT_EQ(tensor->view.rank, 2);
  EXPECT_EQ(tensor->view.strides[0], tensor->view.shape[1]);
  EXPECT_EQ(tensor->view.strides[1], 1);
  uint64_t sum = 0;
  for (int64_t i = 0; i < tensor->view.shape[0] * tensor->view.shape[1]; ++i) {
    sum += static_cast<uint8_t>(at[i]);
  }
  EXPECT_NE(sum, 0u);
  tensor->destroy(tensor);
}

TEST_F(Embedding, YamlTextSaysWhereItIsWrong) {
  auto config = loader_->parse_config(
      "version: 1\nmodel: " + kModel + "\nquantization: {transformer: fp9}\n", "pipeline.yaml");
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.error().text().find("pipeline.yaml:3"), std::string::npos)
      << config.error().text();
}

TEST_F(Embedding, UnknownNamesGetTheNearest) {
  auto model = load(*loader_->make_config(kModel));
  ASSERT_NE(model, nullptr);
  auto component = find_stored(*model, "transformr", "x", "weight");
  ASSERT_FALSE(component.ok());
  EXPECT_NE(component.error().text().find("did you mean \"transformer\"?"), std::string::npos)
      << component.error().text();
  EXPECT_FALSE(dlpack::view_of(model, 1u << 30, 0).ok());
}

TEST_F(Embedding, PartsComeFromElsewhere) {
  fs::path elsewhere = fs::temp_directory_path() / ("loadstone-vae-" + std::to_string(getpid()));
  fs::remove_all(elsewhere);
  fs::copy(kModel + "/vae", elsewhere, fs::copy_options::recursive);
  auto config = loader_->make_config(kModel);
  ASSERT_TRUE(config.ok());
  config->components.push_back({"vae", elsewhere.string(), {}});
  auto plan = loader_->plan(*config);
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  const auto& checkpoint = *(*plan)->checkpoint;
  const formats::Component* vae = checkpoint.component("vae");
  ASSERT_NE(vae, nullptr);
  ASSERT_FALSE(vae->tensors.empty());
  EXPECT_EQ(checkpoint.files[vae->tensors[0].file].path.rfind(elsewhere.string(), 0), 0u);
  auto own = load(*loader_->make_config(kModel)), other = load(*config);
  ASSERT_TRUE(own != nullptr && other != nullptr);
  EXPECT_EQ(own->plan().peaks.stored, other->plan().peaks.stored);

  config->components[0].name = "vea";
  auto wrong = loader_->plan(*config);
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().text().find("did you mean \"vae\"?"), std::string::npos)
      << wrong.error().text();
  fs::remove_all(elsewhere);
}

TEST_F(Embedding, KeptLayerOfAQuantizedCheckpointIsDecoded) {
  fs::path folder = fs::temp_directory_path() / ("loadstone-decode-" + std::to_string(getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["X"], "quantization_config": {"quant_method": "fp8"}})";
  std::vector<formats::TensorSpec> specs(4);
  for (size_t i = 0; i < 4; ++i) {
    specs[i].name = std::string(i < 2 ? "a" : "b") + (i % 2 == 0 ? ".weight" : ".weight_scale");
    specs[i].dtype = i % 2 == 0 ? DType::F8_E4M3 : DType::F32;
    if (i % 2 == 0) specs[i].shape = {16, 32};
  }
  auto writer = formats::SafetensorsWriter::create((folder / "model.safetensors").string(), specs);
  ASSERT_TRUE(writer.ok()) << writer.error().text();
  std::vector<uint8_t> codes(512);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i % 0x7e);
  float scale = 0.5f;
  for (int layer = 0; layer < 2; ++layer) {
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(codes))).ok());
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(&scale, 1))).ok());
  }
  ASSERT_TRUE(writer->finish().ok());

  auto config = loader_->parse_config("version: 1\nmodel: " + folder.string() +
                                          "\nrules:\n  - {layer: b, use: keep}\n"
                                          "load: {dtype: float32}\n",
                                      "decode.yaml");
  ASSERT_TRUE(config.ok()) << config.error().text();
  auto model = load(*config);
  ASSERT_NE(model, nullptr);
  const plan::LayerPlan *a = &model->plan().layers[0], *b = &model->plan().layers[1];
  EXPECT_EQ(a->decision, plan::Decision::quantize);
  EXPECT_EQ(b->decision, plan::Decision::decode);
  EXPECT_NE(b->rule.find("decode.yaml:4"), std::string::npos) << b->rule;
  auto weight = find_stored(*model, model->plan().graph.components[0].name, "b", "weight");
  ASSERT_TRUE(weight.ok()) << weight.error().text();
  EXPECT_EQ(weight->what->dtype, DType::F32);
  const auto* values = reinterpret_cast<const float*>(weight->at);
  EXPECT_EQ(values[0x38], 0.5f);        // 0x38 is 1
  EXPECT_EQ(values[0x7d], 416 * 0.5f);  // the largest code here

  load::DequantizeOptions options;
  options.output = (folder / "out").string();
  auto report = loader_->dequantize(folder.string(), options);
  ASSERT_TRUE(report.ok()) << report.error().text();
  auto written = formats::open_checkpoint(system_files(), report->files.at(0).path);
  ASSERT_TRUE(written.ok());
  const formats::TensorEntry* entry = written->components[0].find("b.weight");
  ASSERT_NE(entry, nullptr);
  std::vector<std::byte> bytes(entry->nbytes);
  ASSERT_TRUE(written->files[entry->file].file->read_exact(bytes, entry->offset).ok());
  ASSERT_EQ(bytes.size(), weight->what->nbytes);
  EXPECT_EQ(0, std::memcmp(bytes.data(), weight->at, bytes.size()));
  fs::remove_all(folder);
}

TEST_F(Embedding, FailedDequantizeLeavesNothing) {
  fs::path output = fs::temp_directory_path() / ("loadstone-halfway-" + std::to_string(getpid()));
  fs::remove_all(output);
  auto run = [&](uint64_t fail_read, const CancelToken* cancel) {
    ::loadstone::testing::FaultyFileSystem files;
    auto opened = formats::open_checkpoint(files, kModel);
    EXPECT_TRUE(opened.ok());
    auto checkpoint = std::make_shared<const formats::Checkpoint>(*std::move(opened));
    auto graph = graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters");
    EXPECT_TRUE(graph.ok());
    files.faults().fail_read = fail_read == 0 ? 0 : files.faults().reads + fail_read;
    load::DequantizeOptions options;
    options.output = output.string();
    load::LoadControl control;
    control.cancel = cancel;
    return load::dequantize(checkpoint, *std::move(graph), loader_->registry(), options, control);
  };
  for (uint64_t fail_read : {1, 20, 200}) {
    auto report = run(fail_read, nullptr);
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().code, Code::io);
    EXPECT_FALSE(fs::exists(output));
  }
  CancelToken token;
  token.cancel();
  auto cancelled = run(0, &token);
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code, Code::cancelled);
  EXPECT_FALSE(fs::exists(output));
  auto whole = run(0, nullptr);
  ASSERT_TRUE(whole.ok()) << whole.error().text();
  EXPECT_TRUE(fs::exists(output / "transformer.safetensors"));
  fs::remove_all(output);
}

TEST_F(Embedding, UnwritableDequantizeOutputIsRefused) {
  load::DequantizeOptions options;
  for (const char* path : {"/dev/full", "/proc/loadstone", "/nowhere/at/all"}) {
    options.output = path;
    auto report = loader_->dequantize(kModel, options);
    ASSERT_FALSE(report.ok()) << path;
    EXPECT_EQ(report.error().code, Code::invalid_argument) << report.error().text();
    EXPECT_NE(report.error().text().find(path), std::string::npos) << report.error().text();
  }
}

// ---- S33: online quantization of odd values, through plan, load and the plugin ---------------

class S33 : public Embedding {
 protected:
  void SetUp() override {
    Embedding::SetUp();
    folder_ = fs::temp_directory_path() / ("loadstone-s33-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// A single file with one linear layer "layer.weight" (rows, 32), F32.
  std::string write(const std::vector<float>& values) {
    std::string path = (folder_ / "model.safetensors").string();
    formats::TensorSpec spec;
    spec.name = "layer.weight";
    spec.dtype = DType::F32;
    spec.shape = {values.size() / 32, 32};
    auto writer = formats::SafetensorsWriter::create(path, std::span(&spec, 1));
    EXPECT_TRUE(writer.ok());
    EXPECT_TRUE(writer->append(std::as_bytes(std::span(values))).ok());
    EXPECT_TRUE(writer->finish().ok());
    return path;
  }

  Result<std::shared_ptr<const load::LoadedModel>> load_fp8(const std::string& path,
                                                            unsigned threads,
                                                            const std::string& granularity) {
    std::string text =
        "version: 1\nmodel: " + path +
        "\nrules:\n  - {layer: layer, use: {method: fp8, weight_granularity: " + granularity +
        "}}\nload: {ring: 64KiB, threads: " + std::to_string(threads) + "}\n";
    LS_TRY(auto config, loader_->parse_config(text, "s33.yaml"));
    LS_TRY(auto plan, loader_->plan(config));
    return loader_->load(plan);
  }

  fs::path folder_;
};

TEST_F(S33, S33_NonFiniteWeightIsRefused) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(64 * 32, 0.5f);
    values[40 * 32 + 7] = bad;
    std::string path = write(values);
    for (const char* granularity : {"channel", "tensor"}) {
      auto model = load_fp8(path, 2, granularity);
      ASSERT_FALSE(model.ok()) << granularity;
      EXPECT_EQ(model.error().code, Code::invalid_checkpoint) << model.error().text();
      EXPECT_NE(model.error().text().find("layer"), std::string::npos) << model.error().text();
    }
  }
}

TEST_F(S33, S33_ZeroAndSubnormalRowsAreTheSameOnOneAndManyThreads) {
  std::vector<float> values(2048 * 32);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 2001) - 1000) / 512;
  }
  for (size_t column = 0; column < 32; ++column) {
    values[3 * 32 + column] = 0;
    values[5 * 32 + column] = 1e-42f;
  }
  std::string path = write(values);
  for (const char* granularity : {"channel", "tensor", "block"}) {
    auto one = load_fp8(path, 1, granularity), many = load_fp8(path, 8, granularity);
    if (!one.ok() && one.error().code == Code::unsupported) continue;  // 32 is no whole block
    ASSERT_TRUE(one.ok() && many.ok()) << (one.ok() ? many : one).error().text();
    const plan::LayerPlan& layer = (*one)->plan().layers[0];
    for (uint32_t s = 0; s < layer.stored.size(); ++s) {
      EXPECT_EQ(0, std::memcmp((*one)->stored(0, s), (*many)->stored(0, s), layer.stored[s].nbytes))
          << granularity << " " << layer.stored[s].name;
    }
    int64_t weight = layer.find_stored("weight");
    ASSERT_GE(weight, 0);
    const std::byte* codes = (*one)->stored(0, static_cast<uint32_t>(weight));
    for (size_t column = 0; column < 32; ++column) {
      EXPECT_EQ(codes[3 * 32 + column] & std::byte{0x7f}, std::byte{0}) << granularity;
    }
  }
}

}  // namespace
}  // namespace loadstone
