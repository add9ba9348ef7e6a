// The denoising loop of one picture size and prompt length. Its step works on tensors that stay
// where they are, so that it can be recorded once and replayed (runtime/replay.hpp); between steps
// nothing waits for the device.
#pragma once

#include <memory>
#include <vector>

#include "qwen_image/transformer.hpp"
#include "runtime/replay.hpp"
#include "runtime/scheduler/flow_match_euler.hpp"

namespace loadstone::networks::qwen_image {

/// What a recorded step can't change.
struct StepShape {
  int64_t batch = 1, rows = 0, columns = 0;  // pictures, image tokens of each
  std::vector<int64_t> text_tokens;  // of each prompt; a second one is what to stay away from
  double scale = 1;                  // of guidance by a second prompt
  bool operator==(const StepShape&) const = default;
};

class Denoiser {
 public:
  /// `transformer` outlives it.
  Denoiser(const Transformer& transformer, at::ScalarType dtype,
           std::shared_ptr<runtime::RunState> state, StepShape shape);
  Denoiser(const Denoiser&) = delete;
  Denoiser& operator=(const Denoiser&) = delete;

  /// Latents [batch·N, channels] and embeddings [L, width] of each prompt, on any device.
  void begin(const at::Tensor& latents, const std::vector<at::Tensor>& embeddings,
             const scheduler::Schedule& schedule);
  /// Step i of the schedule. Errors: what layers report, cancelled.
  Status step(size_t i);

  const StepShape& shape() const { return shape_; }
  /// What the last step left, overwritten by the next one; latents and velocity() are float32.
  const at::Tensor& latents() const { return latents_; }
  const std::vector<at::Tensor>& velocities() const { return velocities_; }  // of each prompt
  const at::Tensor& velocity() const { return velocity_; }                   // guided
  uint64_t nbytes() const { return body_.nbytes(); }                         // of recorded kernels
  /// A bound on the bytes of tensors that a step has at once on a GPU, with what stays between
  /// steps.
  static uint64_t step_nbytes(const Transformer& transformer, const StepShape& shape, int64_t steps,
                              bool quantized);

 private:
  void run();
  void place_modulation(size_t i);

  const Transformer& transformer_;
  at::TensorOptions options_;
  std::shared_ptr<runtime::RunState> state_;
  StepShape shape_;
  ImageGrid grid_;
  bool ahead_;  // whether modulations are computed for several steps at once
  // Read by each step.
  std::vector<TextInput> texts_;
  at::Tensor latents_, time_, length_, modulation_;
  StepModulation views_;  // of modulation_
  // Of the whole schedule.
  at::Tensor times_, lengths_, modulations_;
  size_t modulations_from_ = 0;  // step of the first row of modulations_
  std::vector<at::Tensor> velocities_;
  at::Tensor velocity_;
  runtime::Repeated body_;
};

}  // namespace loadstone::networks::qwen_image
