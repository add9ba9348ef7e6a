// Against what the reference pipeline computed: every references/NAME/cases.json with
// models/NAME, its *.blocks.safetensors and vae_encode.json, and the transformer's forward of
// references/families/qwen_image.safetensors. The bounds are those of a float32 implementation:
// embeddings and first velocity 1e-5 relative L2, every step 5e-5, the last 2e-5, pictures within
// 2 of 255 and 80 dB.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <loadstone/runtime.hpp>

#include "base/testing/shared.hpp"
#include "common/causal_vae.hpp"
#include "common/latents.hpp"
#include "qwen_image/transformer.hpp"
#include "runtime/compare/png.hpp"
#include "runtime/loaded_weights.hpp"
#include "runtime/testing/open_model.hpp"
#include "runtime/testing/tensor_file.hpp"
#include "runtime/torch_setup.hpp"

namespace loadstone::networks::qwen_image {
namespace {

namespace fs = std::filesystem;
using runtime::GenerateOptions;
using testing::read_tensor_file;
using testing::relative_l2;
using testing::TensorFile;

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Node read_json(const fs::path& path) {
  auto node = parse_json(content(path), path.string());
  EXPECT_TRUE(node.ok()) << path;
  return node.ok() ? std::move(node).value() : Node();
}

compare::Frame read_png(const fs::path& path) {
  const std::string bytes = content(path);
  auto frame = compare::decode_png(std::as_bytes(std::span(bytes)), path.string());
  EXPECT_TRUE(frame.ok()) << path;
  return frame.ok() ? std::move(frame).value() : compare::Frame{};
}

/// references/NAME folders that hold `file` and have a model of the same name.
std::vector<fs::path> references_with(const std::string& file) {
  std::vector<fs::path> out;
  const fs::path root = testing::shared_folder();
  if (!fs::exists(root / "references")) return out;
  for (const auto& entry : fs::directory_iterator(root / "references")) {
    if (fs::exists(entry.path() / file) && fs::exists(root / "models" / entry.path().filename())) {
      out.push_back(entry.path());
    }
  }
  return out;
}

fs::path model_of(const fs::path& reference) {
  return testing::shared_folder() / "models" / reference.filename();
}

class QwenImageOracle : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "loadstone_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    ASSERT_TRUE(runtime::set_up_torch(1).ok());
  }
  void TearDown() override { fs::remove_all(folder_); }

  static std::shared_ptr<const load::LoadedModel> open(const fs::path& path) {
    auto model = testing::open_model(path.string());
    EXPECT_TRUE(model.ok()) << model.error().text();
    return model.ok() ? *model : nullptr;
  }

  static std::unique_ptr<runtime::LoadedWeights> weights(
      const std::shared_ptr<const load::LoadedModel>& model, const std::string& component) {
    auto weights = runtime::LoadedWeights::open(model, component, at::kFloat,
                                                std::make_shared<runtime::RunState>());
    EXPECT_TRUE(weights.ok()) << weights.error().text();
    return std::move(weights).value();
  }

  fs::path folder_;
};

TextInput text_of(const Transformer& transformer, const at::Tensor& embeddings, int64_t batch,
                  const ImageGrid& grid, const Probe& probe = {}) {
  const int64_t tokens = embeddings.size(0);
  return {transformer.text_rows(embeddings, batch, probe), transformer.text_rotary(tokens, grid),
          tokens};
}

StepModulation step_of(const Transformer& transformer, const at::Tensor& timestep) {
  return transformer.modulation_of(transformer.modulations(timestep)[0]);
}

GenerateOptions options_of(const Node& item) {
  GenerateOptions options;
  options.prompt = item.find("prompt")->text();
  if (!item.find("negative_prompt")->is_null()) {
    options.negative_prompt = item.find("negative_prompt")->text();
  }
  options.true_cfg_scale = item.find("true_cfg_scale")->number();
  options.seed = static_cast<uint64_t>(item.find("seed")->integer());
  options.height = static_cast<uint32_t>(item.find("height")->integer());
  options.width = static_cast<uint32_t>(item.find("width")->integer());
  options.num_inference_steps = static_cast<uint32_t>(item.find("steps")->integer());
  options.num_images_per_prompt =
      static_cast<uint32_t>(item.find("num_images_per_prompt")->integer());
  return options;
}

void expect_trace(const TensorFile& found, const TensorFile& expected) {
  for (const char* name : {"token_ids", "negative_token_ids", "noise", "sigmas", "timesteps", "mu",
                           "latents_packed_initial"}) {
    ASSERT_EQ(found.count(name), expected.count(name)) << name;
    if (!expected.contains(name)) continue;
    EXPECT_EQ(found.at(name).scalar_type(), expected.at(name).scalar_type()) << name;
    EXPECT_TRUE(at::equal(found.at(name), expected.at(name))) << name;
  }
  for (const char* name : {"prompt_embeds", "negative_prompt_embeds", "velocity_first",
                           "velocity_first_cond", "velocity_first_uncond"}) {
    if (!expected.contains(name)) continue;
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_LE(relative_l2(found.at(name), expected.at(name)), 1e-5) << name;
  }
  const at::Tensor &steps = found.at("latents_steps"), &recorded = expected.at("latents_steps");
  ASSERT_EQ(steps.sizes(), recorded.sizes());
  for (int64_t s = 0; s < steps.size(0); ++s) {
    const double bound = s + 1 == steps.size(0) ? 2e-5 : 5e-5;
    EXPECT_LE(relative_l2(steps[s], recorded[s]), bound) << "step " << s;
  }
  EXPECT_LE(relative_l2(found.at("vae_input"), expected.at("vae_input")), 2e-5);
}

TEST_F(QwenImageOracle, CasesEqualTheRecordedOnes) {
  const auto references = references_with("cases.json");
  if (references.empty()) GTEST_SKIP() << "no references (set LOADSTONE_SHARED)";
  for (const fs::path& reference : references) {
    auto model = open(model_of(reference));
    ASSERT_NE(model, nullptr);
    auto pipeline = runtime::Pipeline::open(model, {.threads = 1});
    ASSERT_TRUE(pipeline.ok()) << pipeline.error().text();
    const Node cases = read_json(reference / "cases.json");
    for (const Node& item : cases.items()) {
      SCOPED_TRACE(reference.filename().string() + ": " + item.find("name")->text());
      GenerateOptions options = options_of(item);
      options.trace = (folder_ / "trace.safetensors").string();
      options.output = (folder_ / "picture.png").string();
      auto out = pipeline->generate(options);
      ASSERT_TRUE(out.ok()) << out.error().text();
      EXPECT_EQ(out->guided, item.find("cfg_active")->boolean());
      expect_trace(read_tensor_file(options.trace),
                   read_tensor_file((reference / item.find("tensors")->text()).string()));
      const auto& pictures = item.find("png")->items();
      ASSERT_EQ(out->pictures.size(), pictures.size());
      for (size_t i = 0; i < pictures.size(); ++i) {
        const compare::Frame recorded = read_png(reference / pictures[i].text());
        const compare::Frame written = read_png(out->files[i]);
        EXPECT_EQ(written.rgb, out->pictures[i].rgb);
        auto metrics = compare::metrics_of(recorded.rgb, written.rgb);
        ASSERT_TRUE(metrics.ok());
        EXPECT_LE(metrics->max_abs, 2) << pictures[i].text();
        EXPECT_GE(metrics->psnr_db, 80) << pictures[i].text();
      }
    }
  }
}

/// A case's first step, conditional pass, block by block.
TEST_F(QwenImageOracle, BlocksEqualTheRecordedOnes) {
  const at::NoGradGuard no_gradients;
  const auto references = references_with("cases.json");
  if (references.empty()) GTEST_SKIP() << "no references (set LOADSTONE_SHARED)";
  size_t compared = 0;
  for (const fs::path& reference : references) {
    auto model = open(model_of(reference));
    ASSERT_NE(model, nullptr);
    auto transformer = Transformer::open(*weights(model, "transformer"));
    ASSERT_TRUE(transformer.ok()) << transformer.error().text();
    const Node cases = read_json(reference / "cases.json");
    for (const Node& item : cases.items()) {
      const std::string name = item.find("name")->text();
      const fs::path blocks = reference / (name + ".blocks.safetensors");
      if (!fs::exists(blocks)) continue;
      SCOPED_TRACE(blocks.string());
      const TensorFile expected = read_tensor_file(blocks.string());
      const TensorFile inputs =
          read_tensor_file((reference / item.find("tensors")->text()).string());
      const GenerateOptions options = options_of(item);
      const ImageGrid grid = transformer->make_grid(options.height / 16, options.width / 16);
      std::map<std::string, at::Tensor> found;
      const Probe probe = [&](const std::string& key, const at::Tensor& value) {
        found[key] = value.clone();
      };
      const at::Tensor latents = inputs.at("latents_packed_initial");
      const TextInput text = text_of(*transformer, inputs.at("prompt_embeds").squeeze(0),
                                     latents.size(0), grid, probe);
      const auto step = step_of(*transformer, inputs.at("timesteps").narrow(0, 0, 1).div(1000));
      transformer->forward(latents.view({-1, latents.size(2)}), {text}, step, grid, probe);
      for (const auto& [key, value] : expected) {
        ASSERT_TRUE(found.contains(key)) << key;
        EXPECT_LE(relative_l2(found[key], value), 1e-5) << key;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 0u);
}

TEST_F(QwenImageOracle, EncodedPictureEqualsTheRecordedOne) {
  const at::NoGradGuard no_gradients;
  const auto references = references_with("vae_encode.json");
  if (references.empty()) GTEST_SKIP() << "no references (set LOADSTONE_SHARED)";
  for (const fs::path& reference : references) {
    auto model = open(model_of(reference));
    ASSERT_NE(model, nullptr);
    auto vae = CausalVae::open(*weights(model, "vae"));
    ASSERT_TRUE(vae.ok()) << vae.error().text();
    const Node about = read_json(reference / "vae_encode.json");
    const TensorFile expected = read_tensor_file((reference / "vae_encode.safetensors").string());
    const Encoded encoded =
        vae->encode(from_frame(read_png(reference / about.find("source")->text())));
    EXPECT_LE(relative_l2(encoded.mean.unsqueeze(2), expected.at("mean")), 1e-5);
    EXPECT_LE(relative_l2(encoded.log_variance.unsqueeze(2), expected.at("logvar")), 1e-5);
    EXPECT_LE(relative_l2(normalize(encoded.mean, vae->statistics()).unsqueeze(2),
                          expected.at("mean_normalized")),
              1e-5);
    const auto frames = to_frames(vae->decode(encoded.mean));
    const compare::Frame recorded = read_png(reference / "vae_roundtrip.png");
    auto metrics = compare::metrics_of(recorded.rgb, frames[0].rgb);
    ASSERT_TRUE(metrics.ok());
    EXPECT_LE(metrics->max_abs, 2);
    EXPECT_GE(metrics->psnr_db, 80);
  }
}

/// Another member of the family, with sizes of its own.
TEST_F(QwenImageOracle, ForwardOfTheTinyFamilyMember) {
  const at::NoGradGuard no_gradients;
  const fs::path recorded = testing::shared_folder() / "references/families/qwen_image.safetensors";
  LS_NEEDS(recorded);
  auto model = open(testing::shared_folder() / "models/families/qwen_image");
  ASSERT_NE(model, nullptr);
  auto transformer = Transformer::open(*weights(model, "transformer"));
  ASSERT_TRUE(transformer.ok()) << transformer.error().text();
  const TensorFile tensors = read_tensor_file(recorded.string());
  const at::Tensor latents = tensors.at("in.hidden_states");
  const auto edge = static_cast<int64_t>(std::lround(std::sqrt(latents.size(1))));
  const ImageGrid grid = transformer->make_grid(edge, edge);
  const TextInput text = text_of(*transformer, tensors.at("in.encoder_hidden_states").squeeze(0),
                                 latents.size(0), grid);
  const auto step = step_of(*transformer, tensors.at("in.timestep"));
  const auto out = transformer->forward(latents.view({-1, latents.size(2)}), {text}, step, grid);
  EXPECT_LE(relative_l2(out[0].view(latents.sizes()), tensors.at("out.sample")), 1e-5);
}

}  // namespace
}  // namespace loadstone::networks::qwen_image
