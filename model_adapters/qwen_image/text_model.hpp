// The text path of Qwen2.5-VL: causal, positions 0, 1, 2, … in every mrope row (so plain
// rotate-half RoPE), the last layer's output after the final norm.
#pragma once

#include <memory>

#include "runtime/weights.hpp"

namespace loadstone::networks::qwen_image {

class TextModel {
 public:
  /// Reads config.json flat or with a nested text_config. Errors: invalid_checkpoint, unsupported.
  static Result<TextModel> open(runtime::Weights& weights);
  TextModel(TextModel&&) noexcept;
  TextModel& operator=(TextModel&&) noexcept;
  ~TextModel();

  /// ids [L] int64, each below vocabulary(), on any device → [L, width]. Only queues kernels where
  /// they are on device() and L was seen before.
  at::Tensor forward(const at::Tensor& ids) const;
  at::Device device() const;
  int64_t vocabulary() const;
  int64_t width() const;
  /// A bound on the bytes of tensors that forward() over `tokens` has at once on a GPU.
  uint64_t forward_nbytes(int64_t tokens, bool quantized) const;

 private:
  struct Networks;
  explicit TextModel(std::unique_ptr<Networks> networks);
  std::unique_ptr<Networks> networks_;
};

}  // namespace loadstone::networks::qwen_image
