// Against the shared oracles: the gguf layers, and every tensor of every GGUF checkpoint.
#include <algorithm>
#include <filesystem>

#include "base/file.hpp"
#include "common/testing/layers.hpp"
#include "common/testing/sha256.hpp"
#include "formats/checkpoint.hpp"

namespace loadstone::gguf {
namespace {

using namespace common::testing;
namespace testing = common::testing;
namespace fs = std::filesystem;

const ggml::TypeInfo* type_of_method(std::string method) {
  method = method.substr(5);
  for (char& c : method) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return ggml::find_type(std::string_view(method));
}

/// The oracle's blocks as the layer's weight.
TestLayer stored_layer(const Layers& oracle, const Json& one, const ggml::TypeInfo& type) {
  const std::string name = one["layer"], method = one["method"];
  TestLayer layer = oracle.empty(name);
  layer.tensor("weight", LS_DTYPE_GGML + uint32_t{type.type}, {layer.out, layer.in},
               oracle.at(name + "/" + method + "/blocks").bytes);
  return layer;
}

template <typename Body>
void for_each_case(const Layers& oracle, const Body& body) {
  int cases = 0;
  for (const Json& one : oracle.cases()) {
    const std::string method = one["method"];
    if (method.rfind("gguf_", 0) != 0) continue;
    SCOPED_TRACE(one["layer"].get<std::string>() + "/" + method);
    const ggml::TypeInfo* type = type_of_method(method);
    ASSERT_NE(type, nullptr);
    body(one, one["layer"].get<std::string>(), *type);
    ++cases;
  }
  EXPECT_GT(cases, 0);
  std::cout << cases << " layer cases equal\n";
}

TEST(GgufOracle, StoredLayersDequantizeAndApplyAsRecorded) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("gguf");
  driver.configure(Json::object());
  for_each_case(oracle, [&](const Json& one, const std::string& name, const ggml::TypeInfo& type) {
    TestLayer layer = stored_layer(oracle, one, type);
    Produced produced = driver.produce(layer);
    const auto weight = driver.dequantize(layer, produced, 0, layer.out, layer.in);
    EXPECT_EQ(fnv1a64(weight), one["dequant_fnv1a64"].get<std::string>());
    oracle.expect_output(one, driver.apply(layer, produced, oracle.run(name)));
    Driver::Run first = oracle.run(name);
    first.m = 1;
    const auto row = driver.apply(layer, produced, first);
    const auto wanted =
        oracle.at(name + "/" + one["method"].get<std::string>() + "/out").as<float>();
    const double bound = one["bound_rows"][0];
    for (size_t i = 0; i < row.size(); ++i) ASSERT_LE(std::abs(row[i] - wanted[i]), bound) << i;
  });
}

TEST(GgufOracle, FloatLayersBecomeTheRecordedBlocks) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("gguf");
  for_each_case(oracle, [&](const Json& one, const std::string& name, const ggml::TypeInfo& type) {
    driver.configure({{"type", type.name}});
    TestLayer layer = oracle.floats(name);
    Produced produced = driver.produce(layer);
    const Tensor& wanted = oracle.at(name + "/" + one["method"].get<std::string>() + "/blocks");
    EXPECT_EQ(produced.named("weight").as<char>(), wanted.bytes);
  });
}

TEST(GgufOracle, RefusedWidthsAreRefused) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("gguf");
  driver.configure(Json::object());
  int cases = 0;
  for (const Json& one : oracle.refusals()) {
    const std::string method = one["method"], name = one["layer"];
    if (method.rfind("gguf_", 0) != 0) continue;
    SCOPED_TRACE(name + "/" + method);
    const ggml::TypeInfo& type = *type_of_method(method);
    TestLayer layer = oracle.empty(name);
    layer.tensor("weight", LS_DTYPE_GGML + uint32_t{type.type}, {layer.out, layer.in},
                 std::vector<char>(layer.out * (layer.in / type.elems * type.nbytes)));
    EXPECT_THROW(driver.plan(layer), Refusal);
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

/// A tensor of a file as a layer; vectors are one row.
TestLayer layer_of(const formats::Checkpoint& checkpoint, const formats::TensorEntry& entry) {
  TestLayer out;
  out.in = entry.shape.back();
  out.out = 1;
  for (size_t i = 0; i + 1 < entry.shape.size(); ++i) out.out *= entry.shape[i];
  out.path = entry.name;
  out.load_dtype = LS_DTYPE_F32;
  out.part(entry.name, 0, out.out);
  std::vector<char> bytes(entry.nbytes);
  const Status read = checkpoint.files[entry.file].file->read_exact(
      {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}, entry.offset);
  EXPECT_TRUE(read.ok());
  out.tensor("weight", static_cast<uint32_t>(entry.dtype), {out.out, out.in}, std::move(bytes));
  return out;
}

/// Through the plugin where it is quantized, by widening where the plugin keeps it.
std::vector<float> floats_of(Driver& driver, TestLayer& layer) {
  const Answer answer = driver.plan(layer);
  if (answer.work.verdict == LS_VERDICT_KEEP) {
    const TestLayer::Source& source = layer.sources()[0];
    std::vector<float> out(layer.out * layer.in);
    common::widen(source.dtype, source.bytes.data(), out.data(), out.size());
    return out;
  }
  Produced produced = driver.produce(layer);
  return driver.dequantize(layer, produced, 0, layer.out, layer.in);
}

std::string without_prefix(const std::string& name) {
  for (const char* prefix : {"model.diffusion_model.", "diffusion_model."}) {
    if (name.rfind(prefix, 0) == 0) return name.substr(std::string(prefix).size());
  }
  return name;
}

TEST(GgufOracle, CheckpointsDequantizeToTheToolsOwnWeights) {
  const fs::path root = shared_path("checkpoints/gguf");
  if (!fs::exists(root)) GTEST_SKIP() << "no checkpoints: " << root;
  Driver driver("gguf");
  driver.configure(Json::object());
  int tensors = 0, folders = 0;
  for (const auto& folder : fs::directory_iterator(root)) {
    SCOPED_TRACE(folder.path().string());
    const Json truth = Json::parse(read_file((folder.path() / "truth.json").string()))["tensors"];
    const auto opened = formats::open_checkpoint(system_files(), folder.path().string());
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    size_t found = 0;
    for (const formats::Component& component : (*opened).components) {
      for (const formats::TensorEntry& entry : component.tensors) {
        const std::string name = without_prefix(entry.name);
        SCOPED_TRACE(name);
        if (!truth.contains(name)) continue;
        TestLayer layer = layer_of(*opened, entry);
        EXPECT_EQ(sha256_of_floats(floats_of(driver, layer)), truth[name]["sha256"]);
        ++found;
      }
    }
    EXPECT_EQ(found, truth.size());
    tensors += static_cast<int>(found);
    ++folders;
  }
  EXPECT_GT(tensors, 0);
  std::cout << tensors << " tensors of " << folders << " checkpoints equal\n";
}

}  // namespace
}  // namespace loadstone::gguf
