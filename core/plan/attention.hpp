// What `attention:` asks for, laid over a model: which attention runs quantized, and by what.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::plan {

struct Plan;

/// One attention of a diffusion transformer.
struct AttentionSite {
  uint32_t component = 0;  // index into Plan::graph.components
  std::string path;        // "transformer_blocks.0.attn"
  bool quantized = true;   // false: skip_layers names it
};

/// Attention of all diffusion transformers of a model.
struct AttentionPlan {
  std::string dtype;                 // "fp8"
  std::string rule;                  // where it was asked for, "pipeline.yaml:7:5"
  std::string kernel;                // on the target
  std::vector<uint64_t> skip_steps;  // denoising steps that stay native, sorted
  std::vector<AttentionSite> sites;  // in the model's order

  bool quantizes_step(uint64_t step) const;
  /// The site at that path, or null.
  const AttentionSite* site(uint32_t component, std::string_view path) const;

  Node to_node(const Plan& plan) const;
  /// One line: dtype, how many sites, what stays native, kernel.
  std::string text() const;
};

/// Plan::attention from a configuration's `attention:` (null, or native attention: nothing). Sites
/// are the places that layers with a role "attention.…" lie in: the path up to the segment after
/// its first number, which is the layer's index.
/// Errors: unsupported (a family without a diffusion transformer, a target without a kernel),
/// invalid_config (a layer to skip that doesn't exist, or paths without an index), at the entry.
Status plan_attention(const Node& section, Plan& plan);

}  // namespace loadstone::plan
