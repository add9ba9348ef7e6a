// Memory of a GPU that drawing takes beside the weights: bounds from shapes, and what follows from
// them for the decoder.
#pragma once

#include <loadstone/runtime.hpp>
#include <string>

#include "common/causal_vae.hpp"
#include "qwen_image/denoiser.hpp"
#include "qwen_image/text_model.hpp"
#include "qwen_image/transformer.hpp"

namespace loadstone::networks::qwen_image {

/// Pictures of one run, in pixels.
struct PictureSize {
  int64_t batch = 1, height = 0, width = 0;
};

/// What else decides.
struct RunKind {
  int64_t steps = 1;
  int64_t read_tokens = 0;  // of the longest prompt, as the text model reads it
  bool quantized_text = false, quantized = false;  // whether a method computes layers
  bool recording = false;                          // whether kernels are recorded
};

/// What isn't on a GPU counts nothing.
runtime::RunMemory plan_memory(const TextModel& text, const Transformer& transformer,
                               const CausalVae& vae, const StepShape& step,
                               const PictureSize& picture, const RunKind& kind);

/// How many rows of a picture the decoder works on at a time.
struct DecodeRows {
  int64_t rows = 0;     // the picture's height: all at once
  uint64_t nbytes = 0;  // CausalVae::decode_nbytes; 0 on the CPU
  std::string why;      // fewer than all without being asked, or ""
};

/// `asked` rows; 0: all where memory for that is free, else as many as fit.
DecodeRows choose_decode_rows(const CausalVae& vae, const PictureSize& picture, uint32_t asked);

}  // namespace loadstone::networks::qwen_image
