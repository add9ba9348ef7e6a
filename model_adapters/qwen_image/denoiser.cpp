#include "qwen_image/denoiser.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "common/latents.hpp"

namespace loadstone::networks::qwen_image {
namespace {

constexpr int64_t kModulationBytes = 64 << 20;  // of steps' modulations held at once

}  // namespace

Denoiser::Denoiser(const Transformer& transformer, at::ScalarType dtype,
                   std::shared_ptr<runtime::RunState> state, StepShape shape)
    : transformer_(transformer),
      options_(at::TensorOptions().dtype(dtype).device(transformer.device())),
      state_(std::move(state)),
      shape_(std::move(shape)),
      grid_(transformer.make_grid(shape_.rows, shape_.columns)),
      ahead_(transformer.modulation_rows_are_independent()),
      body_(transformer.device(), state_, [this] { run(); }) {
  for (const int64_t tokens : shape_.text_tokens) {
    texts_.push_back({{}, transformer_.text_rotary(tokens, grid_), tokens});
  }
  // What steps add up is rounded only where the network reads it.
  const at::TensorOptions wide = options_.dtype(at::kFloat);
  latents_ = at::empty({shape_.batch * grid_.tokens(), transformer_.latent_width()}, wide);
  time_ = at::empty({1}, wide);
  length_ = at::empty({}, wide);
  if (!ahead_) return;
  modulation_ = at::empty({transformer_.modulation_width()}, options_);
  views_ = transformer_.modulation_of(modulation_);
}

uint64_t Denoiser::step_nbytes(const Transformer& transformer, const StepShape& shape,
                               int64_t steps, bool quantized) {
  const int64_t tokens = shape.batch * shape.rows * shape.columns;
  const auto passes = static_cast<int64_t>(shape.text_tokens.size());
  int64_t rows = passes * tokens;
  for (const int64_t count : shape.text_tokens) rows += shape.batch * count;
  // Latents, velocities of each pass and guided, in float32.
  const int64_t latents = (3 + 2 * passes) * tokens * transformer.latent_width() * 4;
  // Of several steps, while a layer's columns are put beside the others', and of one.
  const int64_t one = transformer.modulation_nbytes();
  const int64_t modulations = one + 2 * std::max(one, std::min(kModulationBytes, steps * one));
  return transformer.forward_nbytes(rows, quantized) + static_cast<uint64_t>(latents + modulations);
}

void Denoiser::begin(const at::Tensor& latents, const std::vector<at::Tensor>& embeddings,
                     const scheduler::Schedule& schedule) {
  for (size_t p = 0; p < texts_.size(); ++p) {
    const at::Tensor rows =
        transformer_.text_rows(embeddings[p].to(transformer_.device()), shape_.batch);
    if (!texts_[p].rows.defined()) texts_[p].rows = at::empty_like(rows);
    texts_[p].rows.copy_(rows);
  }
  latents_.copy_(latents);
  times_ = at::tensor(schedule.timesteps).div(1000.0).to(options_.device());
  std::vector<float> lengths;
  for (size_t i = 0; i + 1 < schedule.sigmas.size(); ++i) {
    lengths.push_back(schedule.sigmas[i + 1] - schedule.sigmas[i]);
  }
  lengths_ = at::tensor(lengths).to(options_.device());
  modulations_.reset();
}

void Denoiser::place_modulation(size_t i) {
  const auto step = static_cast<int64_t>(i), steps = times_.size(0);
  const auto first = static_cast<int64_t>(modulations_from_);
  if (!modulations_.defined() || step < first || step >= first + modulations_.size(0)) {
    const int64_t fit =
        std::clamp<int64_t>(kModulationBytes / transformer_.modulation_nbytes(), 1, steps - step);
    modulations_ = transformer_.modulations(times_.narrow(0, step, fit));
    modulations_from_ = i;
  }
  modulation_.copy_(modulations_[static_cast<int64_t>(i - modulations_from_)]);
}

Status Denoiser::step(size_t i) {
  const auto index = static_cast<int64_t>(i);
  length_.copy_(lengths_[index]);
  if (ahead_) {
    place_modulation(i);
  } else {
    time_.copy_(times_.narrow(0, index, 1));
  }
  return body_.run();
}

void Denoiser::run() {
  velocities_ = transformer_.forward(
      latents_.to(options_.dtype()), texts_,
      ahead_ ? views_ : transformer_.modulation_of(transformer_.modulations(time_)[0]), grid_);
  velocity_ = velocities_[0].to(at::kFloat);
  if (velocities_.size() > 1) {
    velocity_ = guide(velocity_, velocities_[1].to(at::kFloat), shape_.scale);
  }
  euler_step(latents_, velocity_, length_);
}

}  // namespace loadstone::networks::qwen_image
