// Blocks of the causal autoencoder over one frame: x is [B, C, H, W].
#pragma once

#include <optional>
#include <string>

#include "runtime/weights.hpp"

namespace loadstone::networks {

/// A 2-D convolution, or the last temporal slice of a causal 3-D one. Padding keeps the size.
class FrameConv {
 public:
  static Result<FrameConv> open(runtime::Weights& weights, const std::string& path);
  at::Tensor operator()(const at::Tensor& x) const;
  /// Stride 2, one row and column of zeros behind the last.
  at::Tensor halving(const at::Tensor& x) const;
  int64_t in() const { return weight_.size(1); }
  int64_t out() const { return weight_.size(0); }
  /// Rows above and below that a row of the output is made of.
  int64_t reach() const { return weight_.size(2) / 2; }

 private:
  at::Tensor weight_, bias_;
};

/// x/max(‖x‖, 1e-12)·√C·gamma over the channels, optionally through SiLU.
class ChannelNorm {
 public:
  static Result<ChannelNorm> open(runtime::Weights& weights, const std::string& path);
  at::Tensor operator()(const at::Tensor& x, bool silu) const;

 private:
  at::Tensor gamma_;  // [C]
};

/// shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))
class ResidualBlock {
 public:
  static Result<ResidualBlock> open(runtime::Weights& weights, const std::string& path);
  at::Tensor operator()(const at::Tensor& x) const;
  int64_t in() const { return conv1_.in(); }
  int64_t out() const { return conv2_.out(); }
  int64_t reach() const { return conv1_.reach() + conv2_.reach(); }

 private:
  ResidualBlock(ChannelNorm norm1, FrameConv conv1, ChannelNorm norm2, FrameConv conv2,
                std::optional<FrameConv> shortcut)
      : norm1_(std::move(norm1)),
        conv1_(std::move(conv1)),
        norm2_(std::move(norm2)),
        conv2_(std::move(conv2)),
        shortcut_(std::move(shortcut)) {}
  ChannelNorm norm1_;
  FrameConv conv1_;
  ChannelNorm norm2_;
  FrameConv conv2_;
  std::optional<FrameConv> shortcut_;
};

/// x + proj(attention(to_qkv(norm(x)))) with one head over all pixels.
class PixelAttention {
 public:
  static Result<PixelAttention> open(runtime::Weights& weights, const std::string& path);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  PixelAttention(ChannelNorm norm, FrameConv to_qkv, FrameConv proj)
      : norm_(std::move(norm)), to_qkv_(std::move(to_qkv)), proj_(std::move(proj)) {}
  ChannelNorm norm_;
  FrameConv to_qkv_, proj_;
};

}  // namespace loadstone::networks
