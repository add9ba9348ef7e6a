// What quantizing costs on the emoji model, against reference/emoji-quality-bands.md: the first
// velocity's error per case within 15 % of the table on both sides (a smaller error means that
// something wasn't quantized), the mean PSNR of 16 pictures at most 2 dB under it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <loadstone/runtime.hpp>
#include <sstream>

#include "base/testing/shared.hpp"
#include "runtime/testing/open_model.hpp"
#include "runtime/testing/tensor_file.hpp"

namespace loadstone::networks::qwen_image {
namespace {

namespace fs = std::filesystem;
using testing::read_tensor_file;
using testing::relative_l2;

/// Rows of the tables: numbers by method and column. The two tables' column names differ where
/// both have a case's name: the second table's are prefixed "velocity ".
using Bands = std::map<std::string, std::map<std::string, double>>;

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::stringstream stream(line);
  std::string cell;
  std::getline(stream, cell, '|');
  while (std::getline(stream, cell, '|')) {
    const size_t begin = cell.find_first_not_of(' '), end = cell.find_last_not_of(' ');
    cells.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
  }
  return cells;
}

Bands read_bands(const fs::path& path) {
  Bands bands;
  std::ifstream file(path);
  std::vector<std::string> columns;
  std::string line;
  while (std::getline(file, line)) {
    const auto cells = cells_of(line);
    if (cells.size() < 5) continue;
    if (cells[0] == "method") {
      columns = cells;
      continue;
    }
    const std::string front = columns.size() == 5 ? "velocity " : "";
    for (size_t i = 1; i < std::min(cells.size(), columns.size()); ++i) {
      char* end = nullptr;
      const double value = std::strtod(cells[i].c_str(), &end);
      if (end != cells[i].c_str()) bands[cells[0]][front + columns[i]] = value;
    }
  }
  return bands;
}

struct Case {
  const char* name;  // in the tables
  const char* prompt;
  uint64_t seed;
  double scale;
  const char* negative;  // null: none
};

constexpr Case kCases[] = {
    {"coffee", "a cup of coffee on the table", 0, 4.0, " "},
    {"cat_dog", "a cat and a dog on the grass", 7, 4.0, " "},
    {"heart", "a red heart on a black background", 3, 1.0, nullptr},
    {"owl", "an owl at night", 42, 2.5, "a cat on the grass"},
};
constexpr uint64_t kSeedSteps[] = {0, 100, 200, 300};

struct Method {
  const char* band;
  const char* quantization;
  bool written = false;  // by `loadstone quantize`, and loaded again
};

// Every step of a picture here: activations stay e4m3 throughout.
#define W4A8_STEPS "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]"

constexpr Method kMethods[] = {
    {"fp8_tensor_token",
     R"({"method": "fp8", "weight_granularity": "tensor", "activation_granularity": "token"})"},
    {"fp8_channel_token", R"("fp8")"},
    {"fp8_tensor_tensor",
     R"({"method": "fp8", "weight_granularity": "tensor", "activation_granularity": "tensor"})"},
    {"fp8_block128",
     R"({"method": "fp8", "weight_granularity": "block", "weight_block_size": [128, 128]})"},
    {"int8", R"("int8")"},
    {"mxfp8", R"("mxfp8")"},
    {"mxfp4", R"("mxfp4")"},
    {"mxfp4_uos", R"({"method": "mxfp4", "mxfp4_scale_alg": 2})"},
    {"mxfp4_w4a8", R"({"method": "mxfp4", "w4a8_fallback_steps": )" W4A8_STEPS "}"},
    // Layers that it can't do are kept, because told to.
    {"mxfp4_dualscale",
     R"({"method": "mxfp4_dualscale", "num_bf16_fallback_layers": 0, "on_unsupported": "keep"})"},
    {"gguf_q8_0", R"({"method": "gguf", "type": "Q8_0"})", true},
    {"gguf_q4_0", R"({"method": "gguf", "type": "Q4_0"})", true},
};

struct Drawn {
  at::Tensor velocity;
  std::vector<uint8_t> rgb;
};

class QwenImageQuality : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = (fs::temp_directory_path() / "loadstone_XXXXXX").string();
    folder() = ::mkdtemp(name.data());
  }
  static void TearDownTestSuite() { fs::remove_all(folder()); }
  static fs::path& folder() {
    static fs::path path;
    return path;
  }

  static runtime::Pipeline open_attention() {
    auto model =
        testing::open_configured("version: 1\nmodel: \"" LOADSTONE_SOURCE_DIR
                                 "/examples/models/emoji\"\nattention: {kv_cache_dtype: fp8}\n");
    EXPECT_TRUE(model.ok()) << model.error().text();
    auto pipeline = runtime::Pipeline::open(*model, {.threads = 1});
    EXPECT_TRUE(pipeline.ok()) << pipeline.error().text();
    return std::move(pipeline).value();
  }

  static runtime::Pipeline open(const std::string& quantization, bool written = false) {
    std::string path = LOADSTONE_SOURCE_DIR "/examples/models/emoji";
    if (written) path = write(path, quantization);
    auto model = testing::open_model(path, written ? "null" : quantization);
    EXPECT_TRUE(model.ok()) << model.error().text();
    auto pipeline = runtime::Pipeline::open(*model, {.threads = 1});
    EXPECT_TRUE(pipeline.ok()) << pipeline.error().text();
    return std::move(pipeline).value();
  }

  static std::string write(const std::string& model, const std::string& quantization) {
    const std::string output = (folder() / "written").string();
    const std::string command = std::string(LOADSTONE_BINARY_DIR "/bin/loadstone quantize ") +
                                model + " --quantization '" + quantization + "' --output " +
                                output + " --overwrite > /dev/null";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return output;
  }

  static Drawn draw(runtime::Pipeline& pipeline, const Case& item, uint64_t seed) {
    runtime::GenerateOptions options;
    options.prompt = item.prompt;
    if (item.negative != nullptr) options.negative_prompt = item.negative;
    options.true_cfg_scale = item.scale;
    options.seed = seed;
    options.height = options.width = 128;
    options.num_inference_steps = 20;
    options.trace = (folder() / "trace.safetensors").string();
    auto out = pipeline.generate(options);
    EXPECT_TRUE(out.ok()) << out.error().text();
    return {read_tensor_file(options.trace).at("velocity_first"), out->pictures[0].rgb};
  }

  /// The 16 pictures of the unquantized model, drawn once.
  static const std::vector<Drawn>& reference() {
    static const std::vector<Drawn> drawn = [] {
      runtime::Pipeline pipeline = open("null");
      return draw_all(pipeline);
    }();
    return drawn;
  }

  static std::vector<Drawn> draw_all(runtime::Pipeline& pipeline) {
    std::vector<Drawn> out;
    for (const Case& item : kCases) {
      for (uint64_t step : kSeedSteps) out.push_back(draw(pipeline, item, item.seed + step));
    }
    return out;
  }
};

class QwenImageQualityOf : public QwenImageQuality, public ::testing::WithParamInterface<Method> {};

TEST_P(QwenImageQualityOf, StaysInItsBand) {
  const fs::path path = testing::shared_folder() / "reference/emoji-quality-bands.md";
  LS_NEEDS(path);
  const auto band = read_bands(path).at(GetParam().band);
  runtime::Pipeline pipeline = open(GetParam().quantization, GetParam().written);
  const std::vector<Drawn> drawn = draw_all(pipeline);
  double psnr = 0;
  for (size_t i = 0; i < drawn.size(); ++i) {
    auto metrics = compare::metrics_of(reference()[i].rgb, drawn[i].rgb);
    ASSERT_TRUE(metrics.ok());
    psnr += std::min(metrics->psnr_db, 100.0) / static_cast<double>(drawn.size());
    if (i % std::size(kSeedSteps) != 0) continue;
    const Case& item = kCases[i / std::size(kSeedSteps)];
    const double expected = band.at(std::string("velocity ") + item.name);
    const double found = relative_l2(drawn[i].velocity, reference()[i].velocity);
    std::cout << GetParam().band << " " << item.name << ": velocity error " << found << ", table "
              << expected << "\n";
    EXPECT_NEAR(found, expected, 0.15 * expected) << item.name;
  }
  std::cout << GetParam().band << ": mean PSNR " << psnr << " dB, table " << band.at("mean 16")
            << "\n";
  EXPECT_GE(psnr, band.at("mean 16") - 2.0);
}

/// The reference publishes no figures of its quantized attention: 33 dB is ours to hold.
TEST_F(QwenImageQuality, Fp8AttentionKeepsThePictures) {
  runtime::Pipeline pipeline = open_attention();
  const std::vector<Drawn> drawn = draw_all(pipeline);
  double psnr = 0, velocity = 0;
  for (size_t i = 0; i < drawn.size(); ++i) {
    auto metrics = compare::metrics_of(reference()[i].rgb, drawn[i].rgb);
    ASSERT_TRUE(metrics.ok());
    psnr += std::min(metrics->psnr_db, 100.0) / static_cast<double>(drawn.size());
    velocity +=
        relative_l2(drawn[i].velocity, reference()[i].velocity) / static_cast<double>(drawn.size());
  }
  std::cout << "fp8 attention: mean PSNR " << psnr << " dB, first velocity's error " << velocity
            << "\n";
  EXPECT_GE(psnr, 33.0);
  EXPECT_LE(velocity, 0.03);
  EXPECT_GE(velocity, 0.005);  // it was quantized
}

INSTANTIATE_TEST_SUITE_P(Methods, QwenImageQualityOf, ::testing::ValuesIn(kMethods),
                         [](const auto& method) { return std::string(method.param.band); });

}  // namespace
}  // namespace loadstone::networks::qwen_image
