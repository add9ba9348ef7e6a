// The pipeline as programs use it, on the example model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <loadstone/runtime.hpp>
#include <set>

#include "runtime/compare/metrics.hpp"
#include "runtime/testing/open_model.hpp"
#include "runtime/testing/tensor_file.hpp"

namespace loadstone::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

const std::string kModel = LOADSTONE_SOURCE_DIR "/examples/models/emoji";

class PipelineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "loadstone_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  static Pipeline open(const OpenOptions& options = {.threads = 1},
                       const std::string& model = kModel) {
    auto loaded = testing::open_model(model);
    EXPECT_TRUE(loaded.ok()) << loaded.error().text();
    auto pipeline = Pipeline::open(*loaded, options);
    EXPECT_TRUE(pipeline.ok()) << pipeline.error().text();
    return std::move(pipeline).value();
  }

  static GenerateOptions small() {
    GenerateOptions options;
    options.prompt = "a cat";
    options.height = options.width = 64;
    options.num_inference_steps = 3;
    return options;
  }

  static Generated draw(Pipeline& pipeline, const GenerateOptions& options,
                        const RunControl& control = {}) {
    auto out = pipeline.generate(options, control);
    EXPECT_TRUE(out.ok()) << out.error().text();
    return out.ok() ? std::move(out).value() : Generated{};
  }

  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  size_t entries() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

double psnr(const Picture& a, const Picture& b) {
  auto metrics = compare::metrics_of(a.rgb, b.rgb);
  EXPECT_TRUE(metrics.ok());
  return metrics.ok() ? metrics->psnr_db : 0;
}

TEST_F(PipelineTest, RepeatsItselfAndFollowsTheSeed) {
  Pipeline pipeline = open();
  GenerateOptions options = small();
  const Generated first = draw(pipeline, options);
  EXPECT_EQ(first.pictures[0].height, 64u);
  EXPECT_EQ(first.pictures[0].rgb, draw(pipeline, options).pictures[0].rgb);
  options.seed = 1;
  EXPECT_NE(first.pictures[0].rgb, draw(pipeline, options).pictures[0].rgb);
}

TEST_F(PipelineTest, ThreadsAndComputeTypeKeepThePicture) {
  GenerateOptions options = small();
  options.height = options.width = 128;
  Pipeline one = open();
  const Picture reference = draw(one, options).pictures[0];
  Pipeline two = open({.threads = 2});
  EXPECT_GE(psnr(reference, draw(two, options).pictures[0]), 80);
  Pipeline half = open({.compute = Compute::bf16, .threads = 1});
  EXPECT_GE(psnr(reference, draw(half, options).pictures[0]), 35);
  Pipeline finer = open({.compute = Compute::f16, .threads = 1});
  EXPECT_GE(psnr(reference, draw(finer, options).pictures[0]), 50);
}

TEST_F(PipelineTest, StripsOfThePictureAreThePicture) {
  Pipeline pipeline = open();
  GenerateOptions options = small();
  options.height = 128;
  const Picture whole = draw(pipeline, options).pictures[0];
  for (const uint32_t rows : {8u, 24u, 33u, 127u, 128u, 500u}) {
    options.decode_rows = rows;
    const Generated made = draw(pipeline, options);
    EXPECT_GE(psnr(whole, made.pictures[0]), 80) << rows;
    EXPECT_EQ(made.decoding, "");
  }
}

TEST_F(PipelineTest, ConfigurationSaysHowToRunUnlessOptionsDo) {
  auto loaded = testing::open_configured("version: 1\nmodel: \"" + kModel +
                                         "\"\nrun: {compute: bf16, decode_rows: 24}\n");
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  auto configured = Pipeline::open(*loaded, {.threads = 1});
  auto wide = Pipeline::open(*loaded, {.compute = Compute::f32, .threads = 1});
  ASSERT_TRUE(configured.ok() && wide.ok());
  Pipeline half = open({.compute = Compute::bf16, .threads = 1}), usual = open();
  EXPECT_GE(psnr(draw(half, small()).pictures[0], draw(*configured, small()).pictures[0]), 80);
  EXPECT_GE(psnr(draw(usual, small()).pictures[0], draw(*wide, small()).pictures[0]), 80);
  EXPECT_LE(psnr(draw(usual, small()).pictures[0], draw(*configured, small()).pictures[0]), 70);
}

TEST_F(PipelineTest, MemoryIsPlannedForGpusAlone) {
  Pipeline pipeline = open();
  const Generated made = draw(pipeline, small());
  EXPECT_EQ(made.planned.peak(), 0u);
  EXPECT_EQ(made.measured.peak(), 0u);
}

/// The example with quantized attention; `more` are further entries of the section.
Pipeline open_fp8_attention(const std::string& more) {
  auto loaded = testing::open_configured("version: 1\nmodel: \"" + kModel +
                                         "\"\nattention: {kv_cache_dtype: fp8" + more + "}\n");
  EXPECT_TRUE(loaded.ok()) << loaded.error().text();
  auto pipeline = Pipeline::open(*loaded, {.threads = 1});
  EXPECT_TRUE(pipeline.ok()) << pipeline.error().text();
  return std::move(pipeline).value();
}

TEST_F(PipelineTest, QuantizedAttentionSkipsStepsAndLayers) {
  struct Skipped {
    const char* entries;
    uint64_t quantized;  // of 3 steps in 4 blocks
  };
  const Skipped cases[] = {{"", 12},
                           {", skip_steps: 1", 8},
                           {", skip_steps: '0-1,7'", 4},
                           {", skip_layers: [3]", 9},
                           {", skip_layers: 0-1, skip_steps: [0, 2]", 2},
                           {", skip_layers: 0-3", 0},
                           {", skip_steps: 0-2", 0}};
  Pipeline plain = open();
  const Generated native = draw(plain, small());
  EXPECT_EQ(native.attention_calls, 0u);
  std::set<std::string> pictures;
  for (const Skipped& item : cases) {
    Pipeline pipeline = open_fp8_attention(item.entries);
    const Generated made = draw(pipeline, small());
    EXPECT_EQ(made.attention_calls, 12u);
    EXPECT_EQ(made.attention_quantized, item.quantized) << item.entries;
    // What is skipped is untouched: all of it skipped, not a bit differs.
    EXPECT_EQ(made.pictures[0].rgb == native.pictures[0].rgb, item.quantized == 0) << item.entries;
    EXPECT_GE(psnr(made.pictures[0], native.pictures[0]), 25) << item.entries;
    pictures.emplace(made.pictures[0].rgb.begin(), made.pictures[0].rgb.end());
  }
  EXPECT_EQ(pictures.size(), 6u);  // each choice its own picture, but for the two with none
}

TEST_F(PipelineTest, QuantizedAttentionIsPerPass) {
  GenerateOptions options = small();
  options.negative_prompt = "";
  Pipeline pipeline = open_fp8_attention("");
  EXPECT_EQ(draw(pipeline, options).attention_quantized, 24u);
  EXPECT_EQ(draw(pipeline, small()).attention_quantized, 12u);  // counted anew
}

TEST_F(PipelineTest, GuidanceNeedsANegativePromptAndAScaleAboveOne) {
  Pipeline pipeline = open();
  GenerateOptions options = small();
  EXPECT_FALSE(draw(pipeline, options).guided);
  options.negative_prompt = "";
  EXPECT_TRUE(draw(pipeline, options).guided);
  options.true_cfg_scale = 1.0;
  EXPECT_FALSE(draw(pipeline, options).guided);
}

TEST_F(PipelineTest, WritesPicturesLatentsAndTrace) {
  Pipeline pipeline = open();
  GenerateOptions options = small();
  options.num_images_per_prompt = 2;
  options.output = at("cat.png");
  options.save_latents = at("latents.safetensors");
  options.trace = at("trace.safetensors");
  const Generated made = draw(pipeline, options);
  EXPECT_THAT(made.files,
              ElementsAre(at("cat_0.png"), at("cat_1.png"), options.save_latents, options.trace));
  for (const std::string& file : made.files) EXPECT_TRUE(fs::exists(file)) << file;
  EXPECT_EQ(entries(), 4u);

  const auto trace = testing::read_tensor_file(options.trace);
  EXPECT_EQ(trace.at("latents_steps").sizes(), (std::vector<int64_t>{3, 2, 16, 64}));
  EXPECT_FALSE(trace.contains("velocity_first_cond"));

  // The latents of a file, or of a trace, start the same run; the noise is another seed's.
  for (const std::string& file : {options.save_latents, options.trace}) {
    GenerateOptions again = small();
    again.num_images_per_prompt = 2;
    again.seed = 99;
    again.latents = file;
    EXPECT_EQ(draw(pipeline, again).pictures[1].rgb, made.pictures[1].rgb);
  }
}

TEST_F(PipelineTest, RejectsOptionsByName) {
  Pipeline pipeline = open();
  struct Case {
    std::function<void(GenerateOptions&)> change;
    std::string text;
  };
  const Case cases[] = {
      {[](auto& o) { o.height = 100; },
       "option rejected: --height: found 100, expected a multiple of 16 up to 16384; did you mean "
       "96?"},
      {[](auto& o) { o.width = 0; },
       "option rejected: --width: found 0, expected a multiple of 16 up to 16384"},
      {[](auto& o) { o.num_images_per_prompt = 0; },
       "option rejected: --num-images-per-prompt: found 0, expected at least 1"},
      {[](auto& o) { o.true_cfg_scale = std::nan(""); },
       "option rejected: --true-cfg-scale: found nan, expected a finite number"},
      {[](auto& o) { o.num_inference_steps = 1; },
       "no schedule: found 1 step with shift_terminal, expected at least 2"},
      {[](auto& o) { o.prompt = "a\xff"; },
       "text is not UTF-8: --prompt: found an invalid sequence at byte 1, expected UTF-8"},
      {[](auto& o) { o.negative_prompt = "\xc0"; },
       "text is not UTF-8: --negative-prompt: found an invalid sequence at byte 0, expected UTF-8"},
  };
  for (const Case& c : cases) {
    GenerateOptions options = small();
    c.change(options);
    auto out = pipeline.generate(options);
    ASSERT_FALSE(out.ok()) << c.text;
    EXPECT_EQ(out.error().code, Code::invalid_argument);
    EXPECT_EQ(out.error().text(), c.text);
  }
}

TEST_F(PipelineTest, S44_PathsAreCheckedBeforeTheRun) {
  Pipeline pipeline = open();
  bool started = false;
  RunControl control;
  control.progress = [&](const ProgressEvent&) { started = true; };
  for (const auto member :
       {&GenerateOptions::output, &GenerateOptions::save_latents, &GenerateOptions::trace}) {
    for (const std::string& path :
         {at("missing/x.png"), folder_.string(), std::string("-"), std::string("/dev/full")}) {
      GenerateOptions options = small();
      options.*member = path;
      auto out = pipeline.generate(options, control);
      ASSERT_FALSE(out.ok()) << path;
      EXPECT_EQ(out.error().code, Code::invalid_argument);
      EXPECT_THAT(out.error().text(), HasSubstr("output path rejected: "));
    }
  }
  EXPECT_FALSE(started);
  EXPECT_EQ(entries(), 0u);
}

TEST_F(PipelineTest, RejectsLatentsOfOtherPictures) {
  Pipeline pipeline = open();
  GenerateOptions options = small();
  options.save_latents = at("latents.safetensors");
  draw(pipeline, options);
  GenerateOptions other = small();
  other.width = 96;
  other.latents = options.save_latents;
  auto out = pipeline.generate(other);
  ASSERT_FALSE(out.ok());
  EXPECT_EQ(out.error().text(),
            "option rejected: --latents: found [1, 16, 64], expected [1, 24, 64] for these "
            "pictures");
}

TEST_F(PipelineTest, CancelsBetweenStepsAndInTheDecoderAndWritesNothing) {
  Pipeline pipeline = open();
  GenerateOptions options = small();
  options.output = at("x.png");
  for (const bool after_the_last_step : {false, true}) {
    CancelToken token;
    RunControl control;
    control.cancel = &token;
    control.progress = [&](const ProgressEvent& event) {
      if (event.done == (after_the_last_step ? event.total : 2)) token.cancel();
    };
    auto out = pipeline.generate(options, control);
    ASSERT_FALSE(out.ok());
    EXPECT_EQ(out.error().code, Code::cancelled);
    EXPECT_EQ(entries(), 0u);
  }
  // The next run isn't affected.
  EXPECT_EQ(draw(pipeline, options).files.size(), 1u);
}

TEST_F(PipelineTest, ObserverAndApplyAgree) {
  Pipeline pipeline = open();
  std::set<std::string> seen;
  std::vector<float> x, y;
  RunControl control;
  control.observe = [&](const LayerCall& call) {
    seen.insert(call.component + ":" + call.path);
    if (call.path != "transformer_blocks.1.img_mlp.net.2" || !x.empty()) return;
    x.assign(call.x, call.x + call.rows * call.in);
    y.assign(call.y, call.y + call.rows * call.out);
  };
  draw(pipeline, small(), control);
  EXPECT_TRUE(seen.contains("text_encoder:model.layers.0.mlp.down_proj"));
  EXPECT_TRUE(seen.contains("transformer:proj_out"));
  ASSERT_FALSE(x.empty());
  auto again = pipeline.apply("transformer", "transformer_blocks.1.img_mlp.net.2", x);
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(*again, y);
  EXPECT_THAT(pipeline.apply("transformer", "transformer_blocks.1.img_mlp.net.3", x).error().text(),
              HasSubstr("did you mean transformer_blocks."));
  EXPECT_THAT(pipeline.apply("transformer", "proj_out", std::vector<float>(3)).error().text(),
              HasSubstr("found 3 values, expected a multiple of"));
  EXPECT_THAT(pipeline.apply("vea", "x", x).error().text(),
              HasSubstr("model has no such component"));
}

/// A copy of the example whose files a test changes.
TEST_F(PipelineTest, RefusesPartsThatDontFit) {
  struct Case {
    std::string file, from, to, text;
  };
  const Case cases[] = {
      {"tokenizer/tokenizer.json", "\"id\": 1263", "\"id\": 5000",
       "found token id 5000, expected below 1280 as the text encoder's vocab_size"},
      {"transformer/config.json", "\"num_attention_heads\": 8", "\"num_attention_heads\": 4",
       "layer has another shape: img_in: found 256x64, expected 128x64 as config.json says"},
      {"transformer/config.json", "\"attention_head_dim\": 32", "\"attention_head_dim\": 16",
       "found axes_dims_rope of sum 32, expected three even numbers that add up to "
       "attention_head_dim 16"},
      {"transformer/config.json", "\"guidance_embeds\": false", "\"guidance_embeds\": true",
       "found guidance_embeds true, expected false"},
      {"transformer/config.json", "\"num_layers\": 4", "\"num_layers\": 5",
       "found no \"transformer_blocks.4.img_mod.1\", expected a linear layer"},
      {"vae/config.json", "\"z_dim\": 16", "\"z_dim\": 8", "as latents_mean, expected a list of 8"},
      {"scheduler/scheduler_config.json", "FlowMatchEulerDiscreteScheduler", "Other",
       "found \"Other\", expected \"FlowMatchEulerDiscreteScheduler\""},
  };
  for (const Case& c : cases) {
    const fs::path copy = folder_ / "model";
    fs::remove_all(copy);
    fs::copy(kModel, copy, fs::copy_options::recursive);
    std::ifstream in(copy / c.file);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const size_t place = text.find(c.from);
    ASSERT_NE(place, std::string::npos) << c.file << ": " << c.from;
    text.replace(place, c.from.size(), c.to);
    std::ofstream(copy / c.file) << text;
    auto model = testing::open_model(copy.string());
    ASSERT_TRUE(model.ok()) << model.error().text();
    auto pipeline = Pipeline::open(*model, {.threads = 1});
    ASSERT_FALSE(pipeline.ok()) << c.text;
    EXPECT_THAT(pipeline.error().text(), HasSubstr(c.text));
  }
}

}  // namespace
}  // namespace loadstone::runtime
