// The causal video autoencoder that Qwen-Image and Wan 2.1 share, for one frame.
//
// With one frame and zeros before it a causal 3-D convolution reads the frame through its last
// temporal slice only: it is the 2-D convolution with weight[:, :, -1]. Temporal resampling does
// nothing to a first frame (`time_conv` is not used).
// Sizes come from the tensors; config.json gives dim_mult, num_res_blocks, z_dim and the latents'
// mean and deviation.
#pragma once

#include <memory>

#include "runtime/weights.hpp"

namespace loadstone::networks {

struct LatentStatistics {
  at::Tensor mean, deviation;  // [1, z, 1, 1] float32
};

struct Encoded {
  at::Tensor mean, log_variance;  // [B, z, h, w]; the latter clamped to -30..20
};

class CausalVae {
 public:
  /// Errors: invalid_checkpoint (a missing tensor or config key), unsupported (a variant).
  static Result<CausalVae> open(runtime::Weights& weights);
  CausalVae(CausalVae&&) noexcept;
  CausalVae& operator=(CausalVae&&) noexcept;
  ~CausalVae();

  /// Latents [B, z, h, w] (not normalized) → pictures [B, 3, 8h, 8w] in -1..1; zeros when the run
  /// is stopped. With `strip_rows` the stages behind the middle block, whose reach is a few rows,
  /// work on that many rows of the picture at a time, with what they reach: the same picture, in
  /// less memory. 0: all rows at once.
  at::Tensor decode(const at::Tensor& latents, int64_t strip_rows = 0) const;
  /// Memory beside the weights that decoding `batch` such pictures, or strips of them, takes at
  /// most.
  uint64_t decode_nbytes(int64_t batch, int64_t height, int64_t width) const;
  /// Pictures [B, 3, H, W] in -1..1 → moments. Requires has_encoder().
  Encoded encode(const at::Tensor& pictures) const;

  bool has_encoder() const;
  int64_t latent_channels() const;
  /// Pixels per latent along an edge: 2 to the number of resampling stages.
  int64_t scale() const;
  at::Device device() const;
  const LatentStatistics& statistics() const;

 private:
  struct Networks;
  explicit CausalVae(std::unique_ptr<Networks> networks);
  std::unique_ptr<Networks> networks_;
};

}  // namespace loadstone::networks
