// `loadstone quantize` as a user runs it: what it writes loads to the bytes of load-time
// quantization, and a kill at any point leaves the old folder or the new one, whole (S43).
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <thread>

#include "runtime/testing/open_model.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;

const std::string kModel = LOADSTONE_SOURCE_DIR "/examples/models/emoji";

/// Name and content of every file below a folder.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    out[fs::relative(entry.path(), folder).string()] =
        std::string(std::istreambuf_iterator<char>(file), {});
  }
  return out;
}

class Quantize : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "quantize_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string output() const { return (folder_ / "out").string(); }

  /// `quantization`: as --quantization takes it, or a YAML file that names the model too; `most`:
  /// of a file's bytes that the child may write, 0: all.
  static pid_t start(const std::string& quantization, const std::string& output,
                     const std::string& model = kModel, rlim_t most = 0) {
    std::cout.flush();  // or the child writes it again
    const pid_t child = ::fork();
    if (child != 0) return child;
    const rlimit limit{most, most};
    if (most != 0 && ::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(97);
    std::signal(SIGXFSZ, SIG_IGN);  // the write fails instead
    if (!std::freopen("/dev/null", "w", stdout) || !std::freopen("/dev/null", "w", stderr)) {
      ::_exit(99);
    }
    const bool file = quantization.ends_with(".yaml");
    ::execl(LOADSTONE_BINARY_DIR "/bin/loadstone", "loadstone", "quantize",
            file ? "--config" : "--quantization", quantization.c_str(), "--output", output.c_str(),
            "--overwrite", file ? nullptr : model.c_str(), nullptr);
    ::_exit(98);
  }
  static int run(const std::string& quantization, const std::string& output,
                 const std::string& model = kModel, rlim_t most = 0) {
    int status = 0;
    ::waitpid(start(quantization, output, model, most), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  fs::path folder_;
};

class QuantizeWith : public Quantize, public ::testing::WithParamInterface<const char*> {};

TEST_P(QuantizeWith, LoadsToTheBytesOfLoadTimeQuantization) {
  ASSERT_EQ(run(GetParam(), output()), 0);
  const auto now = testing::open_model(kModel, GetParam());
  const auto again = testing::open_model(output());
  ASSERT_TRUE(now.ok()) << now.error().text();
  ASSERT_TRUE(again.ok()) << again.error().text();
  const plan::Plan &a = (*now)->plan(), &b = (*again)->plan();
  std::map<std::string, uint32_t> places;
  for (uint32_t i = 0; i < b.layers.size(); ++i) {
    const graph::Layer& layer = b.layer_of(b.layers[i]);
    places[b.graph.components[layer.component].name + ":" + layer.path] = i;
  }
  size_t quantized = 0;
  for (uint32_t i = 0; i < a.layers.size(); ++i) {
    const graph::Layer& layer = a.layer_of(a.layers[i]);
    const std::string name = a.graph.components[layer.component].name + ":" + layer.path;
    ASSERT_TRUE(places.contains(name)) << name;
    const uint32_t other = places.at(name);
    EXPECT_EQ(a.layers[i].decision, b.layers[other].decision) << name;
    quantized += a.layers[i].decision == plan::Decision::quantize ? 1 : 0;
    ASSERT_EQ(a.layers[i].stored.size(), b.layers[other].stored.size()) << name;
    for (uint32_t k = 0; k < a.layers[i].stored.size(); ++k) {
      const plan::Stored &x = a.layers[i].stored[k], &y = b.layers[other].stored[k];
      EXPECT_EQ(x.name, y.name) << name;
      EXPECT_EQ(x.dtype, y.dtype) << name;
      ASSERT_EQ(x.slab_nbytes(), y.slab_nbytes()) << name << " " << x.name;
      EXPECT_EQ(std::memcmp((*now)->stored(i, k), (*again)->stored(other, k), x.slab_nbytes()), 0)
          << name << " " << x.name;
    }
  }
  EXPECT_GT(quantized, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Methods, QuantizeWith,
    ::testing::Values(
        R"("fp8")", R"({"method": "fp8", "weight_granularity": "tensor"})",
        R"({"method": "fp8", "weight_granularity": "block", "weight_block_size": [128, 128]})",
        R"({"method": "gguf", "type": "Q8_0"})", R"({"method": "gguf", "type": "Q4_0"})",
        R"("int8")", R"("mxfp8")", R"("mxfp4")", R"({"method": "mxfp4", "mxfp4_scale_alg": 2})",
        R"({"method": "mxfp4_dualscale", "num_bf16_fallback_layers": 0, "on_unsupported": "keep"})"));

TEST_F(Quantize, KilledAnywhereLeavesTheOldFolderOrTheNewOne) {
  ASSERT_EQ(run("fp8", output()), 0);
  const auto old = contents(output());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(run("int8", (folder_ / "new").string()), 0);
  const auto whole = std::chrono::steady_clock::now() - begin;
  const auto fresh = contents(folder_ / "new");
  const char* asked = std::getenv("LOADSTONE_KILLS");
  const int kills = asked ? std::atoi(asked) : 25;
  std::mt19937 random(7);
  int done = 0;
  for (int i = 0; i < kills; ++i) {
    const pid_t child = start("int8", output());
    std::this_thread::sleep_for(whole * std::uniform_real_distribution<double>(0, 1.1)(random));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto found = contents(output());
    ASSERT_TRUE(found == old || found == fresh) << "kill " << i;
    if (found == fresh) {
      ++done;
      ASSERT_EQ(run("fp8", output()), 0);
    }
  }
  std::cout << kills << " kills: " << done << " after the exchange\n";
  EXPECT_EQ(run("int8", output()), 0);  // leftovers of killed runs don't matter
  EXPECT_EQ(contents(output()), fresh);
}

TEST_F(Quantize, AWriteThatFailsLeavesWhatWasThere) {
  EXPECT_EQ(run("fp8", output(), kModel, 200'000), 1);
  EXPECT_TRUE(fs::is_empty(folder_)) << "something half written is left";
  ASSERT_EQ(run("fp8", output()), 0);
  const auto old = contents(output());
  for (const rlim_t most : {rlim_t{1000}, rlim_t{200'000}, rlim_t{500'000}}) {
    EXPECT_EQ(run("int8", output(), kModel, most), 1) << most;
    EXPECT_EQ(contents(output()), old) << most;
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << most;
  }
}

TEST_F(Quantize, ComponentsComeFromWhereTheConfigurationSays) {
  const fs::path vae = folder_ / "vae";
  fs::copy(fs::path(kModel) / "vae", vae, fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(vae)) {
    if (entry.path().extension() != ".safetensors") continue;
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-2, std::ios::end).write("\x80\x3f", 2);  // another last value
  }
  const std::string config = (folder_ / "parts.yaml").string();
  std::ofstream(config) << "model: " << kModel << "\nquantization: fp8\n"
                        << "components: {vae: {path: " << vae.string() << "}}\n";
  ASSERT_EQ(run(config, output()), 0);
  EXPECT_EQ(contents(folder_ / "out/vae"), contents(vae));
  EXPECT_NE(contents(vae), contents(fs::path(kModel) / "vae"));
}

TEST_F(Quantize, NeverWritesOverItsOwnSourceNorAFolderWithoutAModel) {
  EXPECT_EQ(run("fp8", kModel), 2);
  fs::create_directory_symlink(kModel, folder_ / "link");
  EXPECT_EQ(run("fp8", (folder_ / "link").string()), 2);
  EXPECT_EQ(run("fp8", kModel + "/inside"), 2);
  fs::create_directory(folder_ / "other");
  std::ofstream(folder_ / "other" / "letter.txt") << "dear";
  EXPECT_EQ(run("fp8", (folder_ / "other").string()), 2);
  EXPECT_EQ(run("null", output()), 2);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2);  // nothing was left behind
}

}  // namespace
}  // namespace loadstone
