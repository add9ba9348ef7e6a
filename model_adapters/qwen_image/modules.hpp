// What the transformer's checkpoint holds: its sizes, and the layers of a block.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/heads.hpp"
#include "runtime/linear.hpp"
#include "runtime/weights.hpp"

namespace loadstone::networks::qwen_image {

using LinearPtr = std::unique_ptr<runtime::Linear>;

constexpr double kEps = 1e-6;  // of every norm (the class's constant, not configured)

struct Sizes {
  int64_t layers = 0, width = 0, latent = 0, text = 0;
  HeadCounts heads;
  std::vector<int64_t> axes;  // rotary dims: frame, row, column
};

/// One of a block's two streams.
struct Stream {
  LinearPtr modulation, qkv, out, up, down;
  HeadNorm q_norm, k_norm;
};

struct Block {
  Stream img, txt;
  bool fp8_attention = false;  // at steps that aren't skipped
};

/// Of config.json. Errors: invalid_checkpoint for what another class computes.
Result<Sizes> read_sizes(const Node& config);
/// [out, in] at `path`. Errors: not_found, invalid_checkpoint for another shape.
Result<LinearPtr> open_linear(runtime::Weights& weights, const std::string& path, int64_t in,
                              int64_t out);
/// The layers below `path`, which ends in a dot. Errors as open_linear's.
Result<Block> open_block(runtime::Weights& weights, const std::string& path, const Sizes& sizes);

}  // namespace loadstone::networks::qwen_image
