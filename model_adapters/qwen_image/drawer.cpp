#include "qwen_image/drawer.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/text.hpp"
#include "common/causal_vae.hpp"
#include "common/latents.hpp"
#include "formats/output_file.hpp"
#include "qwen_image/denoiser.hpp"
#include "qwen_image/memory.hpp"
#include "qwen_image/prompt.hpp"
#include "qwen_image/text_model.hpp"
#include "runtime/device_memory.hpp"
#include "runtime/image_files.hpp"
#include "runtime/loaded_weights.hpp"
#include "runtime/noise.hpp"
#include "runtime/scheduler/flow_match_euler.hpp"
#include "runtime/step_clock.hpp"
#include "runtime/torch_setup.hpp"
#include "runtime/trace.hpp"

namespace loadstone::networks::qwen_image {
namespace {

using runtime::Generated;
using runtime::GenerateOptions;
using runtime::NamedTensors;
using runtime::RunControl;

constexpr const char* kInitialLatents = "latents_packed_initial";
constexpr size_t kDenoisers = 4;                 // kept for the next run of the same shape
constexpr uint64_t kRecordedBytes = 2ull << 30;  // of device memory that kept ones may hold
constexpr int64_t kRecordedTokens = 1 << 10;     // of a prompt
constexpr int64_t kRecordedLatents = 16 << 10;   // values: a picture of 256x256 pixels
constexpr uint32_t kMaxEdge = 1 << 14;           // pixels

class Clock {
 public:
  /// Seconds since the last call.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

Error bad_option(const char* flag, std::string found, std::string expected, std::string hint = "") {
  return Error{Code::invalid_argument,
               "option rejected",
               flag,
               "found " + std::move(found) + ", expected " + std::move(expected),
               std::move(hint),
               {}};
}

/// What a run needs, made once from its options.
struct Run {
  const GenerateOptions& options;
  const RunControl& control;
  bool guided = false;
  int64_t batch = 1;
  int64_t height = 0, width = 0;  // of the latents
  std::vector<std::string> pictures = {};
  at::Tensor given_latents = {};  // of --latents, or undefined
  bool traced = false;
  NamedTensors trace = {};

  PictureSize picture() const { return {batch, options.height, options.width}; }
  void record(const char* name, const at::Tensor& value) {
    if (traced)
      trace.emplace_back(
          name, value.detach()
                    .to(at::kCPU, value.is_floating_point() && value.scalar_type() != at::kDouble
                                      ? at::kFloat
                                      : value.scalar_type())
                    .clone());
  }
};

class QwenImageDrawer final : public runtime::Drawer {
 public:
  QwenImageDrawer(runtime::DrawerSource source, tokenizer::Tokenizer tokenizer,
                  scheduler::FlowMatchConfig scheduler, TextModel text, Transformer transformer,
                  CausalVae vae)
      : source_(std::move(source)),
        tokenizer_(std::move(tokenizer)),
        scheduler_(scheduler),
        text_(std::move(text)),
        transformer_(std::move(transformer)),
        vae_(std::move(vae)),
        encode_(
            text_.device(), source_.state,
            [this](const at::Tensor& ids) { return text_.forward(ids); }, kRecordedTokens),
        decode_(
            vae_.device(), source_.state,
            [this](const at::Tensor& latents) { return vae_.decode(latents, 0); },
            kRecordedLatents) {}

  Result<Generated> generate(const GenerateOptions& options, const RunControl& control) override;

 private:
  Result<Run> check(const GenerateOptions& options, const RunControl& control) const;
  Result<std::vector<at::Tensor>> encode_texts(Run& run);
  at::Tensor initial_latents(Run& run) const;
  uint64_t recorded_nbytes() const;
  /// The GPU that has most to do, or the CPU.
  at::Device drawing_device() const;
  Denoiser& denoiser_for(StepShape shape);
  Result<at::Tensor> denoise(Run& run, const std::vector<at::Tensor>& embeddings,
                             const at::Tensor& initial, const scheduler::Schedule& schedule,
                             runtime::Timings& timings);
  void record_velocities(Run& run, const Denoiser& denoiser) const;
  Result<at::Tensor> decode(const Run& run, const at::Tensor& input, Generated& out);
  Status write(Run& run, const at::Tensor& initial, Generated& out) const;

  runtime::DrawerSource source_;
  tokenizer::Tokenizer tokenizer_;
  scheduler::FlowMatchConfig scheduler_;
  TextModel text_;
  Transformer transformer_;
  CausalVae vae_;
  runtime::RepeatedFunction encode_, decode_;
  std::vector<std::unique_ptr<Denoiser>> denoisers_;  // the last used in front
};

Result<Run> QwenImageDrawer::check(const GenerateOptions& options,
                                   const RunControl& control) const {
  Run run{options, control};
  const auto patch = static_cast<uint32_t>(2 * vae_.scale());  // pixels of an image token's edge
  for (const auto& [flag, value] :
       {std::pair{"--height", options.height}, {"--width", options.width}}) {
    if (value < patch || value > kMaxEdge || value % patch != 0) {
      return bad_option(
          flag, std::to_string(value),
          "a multiple of " + std::to_string(patch) + " up to " + std::to_string(kMaxEdge),
          value > patch && value < kMaxEdge ? std::to_string(value / patch * patch) : "");
    }
  }
  if (options.num_images_per_prompt < 1) {
    return bad_option("--num-images-per-prompt", "0", "at least 1");
  }
  if (!std::isfinite(options.true_cfg_scale)) {
    return bad_option("--true-cfg-scale", std::to_string(options.true_cfg_scale),
                      "a finite number");
  }
  run.guided = options.negative_prompt.has_value() && options.true_cfg_scale > 1.0;
  run.batch = options.num_images_per_prompt;
  run.height = options.height / vae_.scale();
  run.width = options.width / vae_.scale();
  run.traced = !options.trace.empty();
  if (!options.output.empty()) {
    run.pictures = runtime::picture_paths(options.output, options.num_images_per_prompt);
  }
  for (const std::string& path : run.pictures) LS_CHECK(formats::check_output_path(path));
  for (const std::string& path : {options.save_latents, options.trace}) {
    if (!path.empty()) LS_CHECK(formats::check_output_path(path));
  }
  if (options.latents.empty()) return run;
  LS_TRY(run.given_latents, runtime::read_tensor(system_files(), options.latents, kInitialLatents));
  const std::vector<int64_t> shape = {run.batch, run.height / 2 * (run.width / 2),
                                      4 * vae_.latent_channels()};
  if (run.given_latents.sizes() != at::IntArrayRef(shape)) {
    auto text = [](at::IntArrayRef dims) {
      std::string out;
      for (int64_t dim : dims) out += (out.empty() ? "[" : ", ") + std::to_string(dim);
      return out + "]";
    };
    return bad_option("--latents", text(run.given_latents.sizes()),
                      text(shape) + " for these pictures");
  }
  return run;
}

Result<std::vector<at::Tensor>> QwenImageDrawer::encode_texts(Run& run) {
  source_.state->step = {sizeof(ls_step), 0, run.options.num_inference_steps, 1};
  std::vector<at::Tensor> embeddings;
  auto encode = [&](const std::string& prompt, const char* ids_name, const char* embeds_name,
                    const char* flag) -> Status {
    auto found = read_prompt(prompt, tokenizer_);
    if (!found) return std::move(found).error().at(flag);
    LS_TRY(const at::Tensor rows, encode_(found->used));
    const at::Tensor kept = rows.narrow(0, kDropped, rows.size(0) - kDropped).clone();
    run.record(ids_name, at::tensor(found->ids, at::TensorOptions().dtype(at::kInt)));
    run.record(embeds_name, kept.unsqueeze(0));
    embeddings.push_back(kept);
    return {};
  };
  LS_CHECK(encode(run.options.prompt, "token_ids", "prompt_embeds", "--prompt"));
  if (run.guided) {
    LS_CHECK(encode(*run.options.negative_prompt, "negative_token_ids", "negative_prompt_embeds",
                    "--negative-prompt"));
  }
  return embeddings;
}

at::Tensor QwenImageDrawer::initial_latents(Run& run) const {
  at::Tensor packed = run.given_latents;
  if (!packed.defined()) {
    const at::Tensor noise = runtime::draw_noise(
        {run.batch, 1, vae_.latent_channels(), run.height, run.width}, run.options.seed);
    run.record("noise", noise);
    packed = pack_latents(noise.squeeze(1));
  }
  packed = packed.to(transformer_.device(), source_.dtype);
  run.record(kInitialLatents, packed);
  return packed;
}

void QwenImageDrawer::record_velocities(Run& run, const Denoiser& denoiser) const {
  const auto record = [&](const char* name, const at::Tensor& value) {
    run.record(name, value.view({run.batch, -1, value.size(1)}));
  };
  if (run.guided) {
    record("velocity_first_cond", denoiser.velocities()[0]);
    record("velocity_first_uncond", denoiser.velocities()[1]);
  }
  record("velocity_first", denoiser.velocity());
}

uint64_t QwenImageDrawer::recorded_nbytes() const {
  uint64_t sum = 0;
  for (const auto& one : denoisers_) sum += one->nbytes();
  return sum;
}

Denoiser& QwenImageDrawer::denoiser_for(StepShape shape) {
  const auto same = [&](const auto& one) { return one->shape() == shape; };
  const auto found = std::find_if(denoisers_.begin(), denoisers_.end(), same);
  if (found != denoisers_.end()) {
    std::rotate(denoisers_.begin(), found, found + 1);
    return *denoisers_.front();
  }
  while (denoisers_.size() >= kDenoisers || recorded_nbytes() > kRecordedBytes) {
    denoisers_.pop_back();
  }
  denoisers_.insert(
      denoisers_.begin(),
      std::make_unique<Denoiser>(transformer_, source_.dtype, source_.state, std::move(shape)));
  return *denoisers_.front();
}

at::Device QwenImageDrawer::drawing_device() const {
  for (const at::Device device : {transformer_.device(), vae_.device()}) {
    if (!device.is_cpu()) return device;
  }
  return text_.device();
}

bool is_quantized(const plan::Plan& plan, std::string_view component) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), [&](const plan::LayerPlan& layer) {
    return layer.config != nullptr &&
           plan.graph.components[plan.layer_of(layer).component].name == component;
  });
}

StepShape step_shape(const Run& run, const std::vector<at::Tensor>& embeddings) {
  StepShape shape{run.batch, run.height / 2, run.width / 2, {}, run.options.true_cfg_scale};
  for (const at::Tensor& embedding : embeddings) shape.text_tokens.push_back(embedding.size(0));
  return shape;
}

Result<at::Tensor> QwenImageDrawer::denoise(Run& run, const std::vector<at::Tensor>& embeddings,
                                            const at::Tensor& initial,
                                            const scheduler::Schedule& schedule,
                                            runtime::Timings& timings) {
  StepShape shape = step_shape(run, embeddings);
  const std::vector<int64_t> packed = {run.batch, shape.rows * shape.columns, -1};
  Denoiser& denoiser = denoiser_for(std::move(shape));
  denoiser.begin(initial.view({-1, transformer_.latent_width()}), embeddings, schedule);
  const size_t steps = schedule.timesteps.size();
  std::vector<at::Tensor> history;
  runtime::StepClock clock(transformer_.device());
  for (size_t i = 0; i < steps; ++i) {
    source_.state->step = {sizeof(ls_step), static_cast<uint32_t>(i), static_cast<uint32_t>(steps),
                           0};
    source_.state->count_attention(run.guided ? 2 : 1);
    LS_CHECK(denoiser.step(i));
    if (i == 0) record_velocities(run, denoiser);
    if (run.traced)
      history.push_back(denoiser.latents().to(at::kCPU, at::kFloat, false, true).view(packed));
    clock.lap();
    if (run.control.progress) {
      run.control.progress({"denoise", i + 1, steps, "steps"});
    }
  }
  timings.steps = clock.seconds();
  if (run.traced) {
    run.record("latents_steps", at::stack(history, 0));
  }
  return denoiser.latents().to(source_.dtype).view(packed);
}

Result<at::Tensor> QwenImageDrawer::decode(const Run& run, const at::Tensor& input,
                                           Generated& out) {
  const uint32_t asked = run.options.decode_rows != 0 ? run.options.decode_rows
                                                      : source_.model->plan().run.decode_rows;
  const DecodeRows chosen = choose_decode_rows(vae_, run.picture(), asked);
  out.decoding = chosen.why;
  out.planned.decode = chosen.nbytes;
  if (chosen.rows == run.options.height) return decode_(input);
  at::Tensor pictures = vae_.decode(input, chosen.rows);
  LS_CHECK(source_.state->take_failure());
  return pictures;
}

Status QwenImageDrawer::write(Run& run, const at::Tensor& initial, Generated& out) const {
  LS_CHECK(runtime::write_pictures(run.pictures, out.pictures));
  out.files = run.pictures;
  if (const std::string& path = run.options.save_latents; !path.empty()) {
    LS_CHECK(runtime::write_tensors(path, {{kInitialLatents, initial.to(at::kFloat)}}));
    out.files.push_back(path);
  }
  if (run.traced) {
    LS_CHECK(runtime::write_tensors(run.options.trace, run.trace));
    out.files.push_back(run.options.trace);
  }
  return {};
}

Result<Generated> QwenImageDrawer::generate(const GenerateOptions& options,
                                            const RunControl& control) {
  const at::NoGradGuard no_gradients;
  Clock whole, clock;
  LS_TRY(Run run, check(options, control));
  const int64_t tokens = run.height / 2 * (run.width / 2);
  LS_TRY(const auto schedule,
         scheduler::make_schedule(scheduler_, options.num_inference_steps, tokens));
  Generated out;
  out.guided = run.guided;
  runtime::DeviceMeter meter(drawing_device());
  LS_TRY(const auto embeddings, encode_texts(run));
  const StepShape shape = step_shape(run, embeddings);
  const auto longest = std::max_element(shape.text_tokens.begin(), shape.text_tokens.end());
  const plan::Plan& plan = source_.model->plan();
  out.planned = plan_memory(text_, transformer_, vae_, shape, run.picture(),
                            {.steps = options.num_inference_steps,
                             .read_tokens = kDropped + *longest,
                             .quantized_text = is_quantized(plan, "text_encoder"),
                             .quantized = is_quantized(plan, "transformer"),
                             .recording = source_.state->recording});
  out.timings.text = clock.lap();
  const at::Tensor initial = initial_latents(run);
  run.record("sigmas", at::tensor(schedule.sigmas));
  run.record("timesteps", at::tensor(schedule.timesteps));
  if (scheduler_.use_dynamic_shifting) {
    run.record("mu", at::tensor(std::vector<double>{schedule.mu}));
  }
  LS_TRY(const at::Tensor latents, denoise(run, embeddings, initial, schedule, out.timings));
  out.timings.denoise = clock.lap();
  out.measured.step = meter.lap();
  const at::Tensor input = denormalize(
      unpack_latents(latents.to(vae_.device()), run.height, run.width), vae_.statistics());
  run.record("vae_input", input.unsqueeze(2));
  LS_TRY(const at::Tensor pictures, decode(run, input, out));
  out.pictures = to_frames(pictures);
  out.timings.decode = clock.lap();
  out.measured.decode = meter.lap();
  out.measured.recorded = encode_.nbytes() + decode_.nbytes() + recorded_nbytes();
  out.not_recorded = source_.state->not_recorded;
  LS_CHECK(write(run, initial, out));
  out.timings.total = whole.lap();
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  out.resident_peak_nbytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  return out;
}

Result<scheduler::FlowMatchConfig> read_scheduler(const std::string& root) {
  const std::string path = root + "/scheduler/scheduler_config.json";
  LS_TRY(const std::string text, read_text(system_files(), path, 1 << 20));
  LS_TRY(const Node config, parse_json(text, path));
  return scheduler::read_flow_match_config(config);
}

Status check_fit(const char* what, int64_t found, int64_t expected, const char* expected_of) {
  if (found == expected) return {};
  return Error{Code::invalid_checkpoint,
               "components don't fit",
               what,
               "found " + std::to_string(found) + ", expected " + std::to_string(expected) +
                   " as " + expected_of,
               "",
               {}};
}

}  // namespace

Result<std::unique_ptr<runtime::Drawer>> make_drawer(const runtime::DrawerSource& source) {
  const at::NoGradGuard no_gradients;
  const std::string& root = source.model->plan().checkpoint->root;
  LS_TRY(auto tokenizer, tokenizer::Tokenizer::open(system_files(), root + "/tokenizer"));
  LS_TRY(auto scheduler, read_scheduler(root));
  auto weights = [&](const char* component) {
    return runtime::LoadedWeights::open(source.model, component, source.dtype, source.state);
  };
  LS_TRY(auto text_weights, weights("text_encoder"));
  LS_TRY(auto text, TextModel::open(*text_weights));
  LS_TRY(auto transformer_weights, weights("transformer"));
  LS_TRY(auto transformer, Transformer::open(*transformer_weights));
  LS_TRY(auto vae_weights, weights("vae"));
  LS_TRY(auto vae, CausalVae::open(*vae_weights));
  if (tokenizer.max_id() >= text.vocabulary()) {
    return Error{Code::invalid_checkpoint,
                 "components don't fit",
                 "tokenizer",
                 "found token id " + std::to_string(tokenizer.max_id()) + ", expected below " +
                     std::to_string(text.vocabulary()) + " as the text encoder's vocab_size",
                 "",
                 {}};
  }
  LS_CHECK(check_fit("transformer: joint_attention_dim", transformer.text_width(), text.width(),
                     "the text encoder's hidden_size"));
  LS_CHECK(check_fit("transformer: in_channels", transformer.latent_width(),
                     4 * vae.latent_channels(), "the vae's z_dim in patches of 2x2"));
  return std::unique_ptr<runtime::Drawer>(
      std::make_unique<QwenImageDrawer>(source, std::move(tokenizer), std::move(scheduler),
                                        std::move(text), std::move(transformer), std::move(vae)));
}

}  // namespace loadstone::networks::qwen_image
