// Against the shared oracles: the ar_* and gptq_* layers, and every integer checkpoint of
// AutoRound, GPTQModel and their like, read through their own declarations.
#include <algorithm>
#include <filesystem>

#include "common/testing/layers.hpp"
#include "common/testing/sha256.hpp"

namespace loadstone::autoround {
namespace {

using namespace common::testing;
namespace testing = common::testing;
namespace fs = std::filesystem;

bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

Json fields_of(const Json& one) {
  const std::string method = one["method"];
  const char* packing = starts(method, "ar_awq")      ? "auto_round:auto_awq"
                        : starts(method, "ar_native") ? "auto_round"
                                                      : "auto_round:auto_gptq";
  return {{"bits", one["bits"]},
          {"group_size", one["group_size"]},
          {"sym", one["sym"]},
          {"packing_format", packing},
          {"desc_act", starts(method, "gptq_desc_act")}};
}

TEST(AutoRoundOracle, LayersDequantizeAndApplyAsRecorded) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("autoround");
  int cases = 0;
  for (const Json& one : oracle.cases()) {
    const std::string method = one["method"], name = one["layer"];
    if (!starts(method, "ar_") && !starts(method, "gptq_")) continue;
    SCOPED_TRACE(name + "/" + method);
    driver.configure(fields_of(one));
    TestLayer layer = oracle.empty(name);
    for (const Json& tensor : one["tensors"]) {
      const std::string suffix = tensor;
      layer.tensor(suffix, oracle.at(name + "/" + method + "/" + suffix));
    }
    layer.show_values();
    Produced produced = driver.produce(layer);
    const auto weight = driver.dequantize(layer, produced, 0, oracle.n(name), oracle.k(name));
    EXPECT_EQ(fnv1a64(weight), one["dequant_fnv1a64"].get<std::string>());
    oracle.expect_output(one, driver.apply(layer, produced, oracle.run(name)));
    Driver::Run first = oracle.run(name);
    first.m = 1;
    const auto row = driver.apply(layer, produced, first);
    const auto wanted = oracle.at(name + "/" + method + "/out").as<float>();
    const double bound = one["bound_rows"][0];
    for (size_t i = 0; i < row.size(); ++i) ASSERT_LE(std::abs(row[i] - wanted[i]), bound) << i;
    ++cases;
  }
  EXPECT_GT(cases, 0);
  std::cout << cases << " layer cases equal\n";
}

TEST(AutoRoundOracle, LayersThatNoToolPacksAreRefused) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << shared_path(Layers::kFile);
  Driver driver("autoround");
  driver.configure({{"bits", 4}, {"group_size", 128}});
  int cases = 0;
  for (const Json& one : oracle.refusals()) {
    const std::string method = one["method"], name = one["layer"];
    if (!starts(method, "ar_")) continue;
    SCOPED_TRACE(name);
    TestLayer layer = oracle.empty(name);
    const uint64_t n = layer.out, k = layer.in, groups = (k + 127) / 128;
    layer.tensor("qweight", LS_DTYPE_I32, {k / 8, n}, std::vector<uint32_t>(k / 8 * n));
    layer.tensor("qzeros", LS_DTYPE_I32, {groups, n / 8}, std::vector<uint32_t>(groups * (n / 8)));
    layer.tensor("scales", LS_DTYPE_F16, {groups, n}, std::vector<uint16_t>(groups * n, 0x3c00));
    try {
      const Answer answer = driver.plan(layer);
      EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
      EXPECT_NE(answer.reason.find("a multiple of 32"), std::string::npos) << answer.reason;
    } catch (const Refusal& refusal) {
      EXPECT_EQ(refusal.status, LS_INVALID_CHECKPOINT) << refusal.what();
    }
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

/// Folders below checkpoints/ whose runtime method is this one.
std::vector<fs::path> checkpoints() {
  std::vector<fs::path> out;
  const fs::path root = shared_path("checkpoints");
  if (!fs::exists(root)) return out;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().filename() != "expect.json") continue;
    const Json expect = Json::parse(read_file(entry.path().string()));
    const std::string method = expect["method"];
    const bool floats = method.find("data_type nv_fp") != std::string::npos;
    if (starts(method, "autoround") || floats) out.push_back(entry.path().parent_path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

Json declaration_of(const fs::path& folder) {
  const Json config = Json::parse(read_file((folder / "config.json").string()));
  return config.at("quantization_config");
}

std::map<std::string, Tensor> tensors_of(const fs::path& folder) {
  std::map<std::string, Tensor> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path& path = entry.path();
    if (path.extension() != ".safetensors" || path.filename() == "truth.safetensors") continue;
    out.merge(read_safetensors(path.string()));
  }
  return out;
}

/// One module as a layer of its own; `in` stays for the method to tell.
TestLayer layer_of(const std::map<std::string, Tensor>& tensors, const std::string& module) {
  TestLayer out;
  out.path = module;
  const bool floats = tensors.count(module + ".weight_packed") != 0;
  out.out = floats ? tensors.at(module + ".weight_packed").shape[0]
                   : tensors.at(module + ".scales").shape[1];
  out.part(module, 0, out.out);
  for (const auto& [name, tensor] : tensors) {
    if (!starts(name, (module + ".").c_str())) continue;
    const std::string suffix = name.substr(module.size() + 1);
    if (suffix != "bias") out.tensor(suffix, tensor);
  }
  out.show_values();
  return out;
}

TEST(AutoRoundOracle, CheckpointsDequantizeToTheToolsOwnWeights) {
  const auto folders = checkpoints();
  if (folders.empty()) GTEST_SKIP() << "no checkpoints: " << shared_path("checkpoints");
  Driver driver("autoround");
  int layers = 0;
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder.string());
    const Json expect = Json::parse(read_file((folder / "expect.json").string()));
    const Json truth = Json::parse(read_file((folder / "truth.json").string()))["tensors"];
    const Declared declared = driver.read_declaration(declaration_of(folder));
    const auto tensors = tensors_of(folder);
    for (const auto& [module, scheme] : expect["layers"].items()) {
      SCOPED_TRACE(module);
      driver.configure(declared.of(module));
      TestLayer layer = layer_of(tensors, module);
      Produced produced = driver.produce(layer);
      const Json& wanted = truth.at(module + ".weight");
      const uint64_t n = wanted["shape"][0], k = wanted["shape"][1];
      ASSERT_EQ(produced.answer.work.in, k);
      layer.in = k;  // as the host does
      const std::string found = sha256_of_floats(driver.dequantize(layer, produced, 0, n, k));
      EXPECT_EQ(found, wanted.contains("sha256_f32") ? wanted["sha256_f32"] : wanted["sha256"]);
      ++layers;
    }
  }
  std::cout << layers << " layers of " << folders.size() << " checkpoints equal\n";
}

}  // namespace
}  // namespace loadstone::autoround
