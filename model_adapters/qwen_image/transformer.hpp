// Qwen-Image's dual-stream diffusion transformer (MMDiT).
//
// Per block: SiLU(temb) through img_mod.1 / txt_mod.1 gives shift, scale, gate for attention and
// shift, scale, gate for the mlp; LayerNorm without weights, x·(1+scale)+shift; q and k
// RMS-normed per head, RoPE on adjacent pairs; one attention over [text, image]; residual
// + gate·out; mlp with tanh-GELU. End: norm_out (chunks are scale, shift), proj_out.
// The text stream of the last block reaches no output: it is computed for a probe only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/heads.hpp"
#include "runtime/weights.hpp"

namespace loadstone::networks::qwen_image {

/// Patches of a picture: `rows`·`columns` image tokens and their positions.
struct ImageGrid {
  int64_t rows = 0, columns = 0;
  RotaryTable rotary;
  int64_t tokens() const { return rows * columns; }
};

/// One prompt as the transformer reads it at every step.
struct TextInput {
  at::Tensor rows;     // txt_in(txt_norm(embeddings)), [batch·L, width]
  RotaryTable rotary;  // of the L text positions
  int64_t tokens = 0;  // L
};

/// What a step's timestep gives every block.
struct StepModulation {
  at::Tensor temb;                   // [width], before SiLU
  std::vector<at::Tensor> img, txt;  // [6·width] a block
  at::Tensor out;                    // [2·width]: scale, shift of norm_out
};

/// Sees named intermediate tensors ("temb", "block0.img", …) of the first text's pass.
using Probe = std::function<void(const std::string& name, const at::Tensor& value)>;

class Transformer {
 public:
  static Result<Transformer> open(runtime::Weights& weights);
  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;
  ~Transformer();

  /// Rows and columns count from -(n - n/2) to n/2 - 1, the frame is 0.
  ImageGrid make_grid(int64_t rows, int64_t columns) const;
  /// Embeddings [L, text width] of one prompt, repeated for `batch` pictures: TextInput::rows.
  at::Tensor text_rows(const at::Tensor& embeddings, int64_t batch, const Probe& probe = {}) const;
  /// Positions of a text of `tokens` beside that picture.
  RotaryTable text_rotary(int64_t tokens, const ImageGrid& grid) const;

  /// Of float32 timesteps [n] (divided by 1000), a row each: [n, modulation_width()]. Several are
  /// computed together only where modulation_rows_are_independent(). Bytes of one:
  /// modulation_nbytes().
  at::Tensor modulations(const at::Tensor& timesteps) const;
  /// Views of one such row.
  StepModulation modulation_of(const at::Tensor& row) const;
  bool modulation_rows_are_independent() const;
  int64_t modulation_width() const;
  int64_t modulation_nbytes() const;
  /// A bound on the bytes of tensors that forward() over so many rows has at once on a GPU, with
  /// what the libraries take, and where layers are `quantized` with any method's kernels.
  uint64_t forward_nbytes(int64_t rows, bool quantized) const;

  /// Velocities of the latents [batch·N, channels] under each text, each [batch·N, channels].
  /// The texts' passes share every product whose rows are independent.
  std::vector<at::Tensor> forward(const at::Tensor& latents, const std::vector<TextInput>& texts,
                                  const StepModulation& step, const ImageGrid& grid,
                                  const Probe& probe = {}) const;

  at::Device device() const;
  int64_t latent_width() const;  // channels of an image token, in and out
  int64_t text_width() const;

 private:
  struct Networks;
  explicit Transformer(std::unique_ptr<Networks> networks);
  std::unique_ptr<Networks> networks_;
};

}  // namespace loadstone::networks::qwen_image
