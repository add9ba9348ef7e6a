#include "qwen_image/modules.hpp"

#include <algorithm>
#include <numeric>

#include "common/layer_shape.hpp"

namespace loadstone::networks::qwen_image {
namespace {

/// Names of a stream's modules below its block.
struct StreamNames {
  std::string modulation, qkv, q, k, v, q_norm, k_norm, out, mlp;
};

const StreamNames kImage{"img_mod.1",   "attn.to_qkv", "attn.to_q",     "attn.to_k", "attn.to_v",
                         "attn.norm_q", "attn.norm_k", "attn.to_out.0", "img_mlp"};
const StreamNames kText{"txt_mod.1",         "attn.add_kv_proj", "attn.add_q_proj",
                        "attn.add_k_proj",   "attn.add_v_proj",  "attn.norm_added_q",
                        "attn.norm_added_k", "attn.to_add_out",  "txt_mlp"};

Result<Stream> open_stream(runtime::Weights& weights, const std::string& path,
                           const StreamNames& names, const Sizes& sizes) {
  const int64_t width = sizes.width;
  Stream out;
  LS_TRY(out.modulation, open_linear(weights, path + names.modulation, width, 6 * width));
  const std::string parts[] = {path + names.q, path + names.k, path + names.v};
  LS_TRY(out.qkv, weights.fused(path + names.qkv, parts));
  LS_CHECK(check_shape(*out.qkv, width, 3 * width, path + names.qkv));
  out.q_norm.eps = out.k_norm.eps = kEps;
  LS_TRY(out.q_norm.weight, weights.tensor(path + names.q_norm + ".weight"));
  LS_TRY(out.k_norm.weight, weights.tensor(path + names.k_norm + ".weight"));
  LS_TRY(out.out, open_linear(weights, path + names.out, width, width));
  LS_TRY(out.up, weights.linear(path + names.mlp + ".net.0.proj"));
  LS_CHECK(check_shape(*out.up, width, out.up->out(), path + names.mlp + ".net.0.proj"));
  LS_TRY(out.down, open_linear(weights, path + names.mlp + ".net.2", out.up->out(), width));
  return out;
}

}  // namespace

Result<Sizes> read_sizes(const Node& config) {
  for (const char* key :
       {"guidance_embeds", "use_additional_t_cond", "use_layer3d_rope", "zero_cond_t"}) {
    LS_CHECK(runtime::config_must_be_off(config, key));
  }
  Sizes out;
  LS_TRY(out.layers, runtime::config_count(config, "num_layers"));
  LS_TRY(out.heads.q, runtime::config_count(config, "num_attention_heads"));
  LS_TRY(out.heads.dim, runtime::config_count(config, "attention_head_dim"));
  LS_TRY(out.latent, runtime::config_count(config, "in_channels"));
  LS_TRY(out.text, runtime::config_count(config, "joint_attention_dim"));
  LS_TRY(out.axes, runtime::config_counts(config, "axes_dims_rope"));
  out.heads.kv = out.heads.q;
  out.width = out.heads.q * out.heads.dim;
  const int64_t rotated = std::accumulate(out.axes.begin(), out.axes.end(), int64_t{0});
  const bool even =
      std::all_of(out.axes.begin(), out.axes.end(), [](int64_t dim) { return dim % 2 == 0; });
  if (out.axes.size() != 3 || rotated != out.heads.dim || !even) {
    return Error{Code::invalid_checkpoint,
                 "model configuration rejected",
                 config.mark().text(),
                 "found axes_dims_rope of sum " + std::to_string(rotated) +
                     ", expected three even numbers that add up to attention_head_dim " +
                     std::to_string(out.heads.dim),
                 "",
                 {}};
  }
  return out;
}

Result<LinearPtr> open_linear(runtime::Weights& weights, const std::string& path, int64_t in,
                              int64_t out) {
  LS_TRY(LinearPtr layer, weights.linear(path));
  LS_CHECK(check_shape(*layer, in, out, path));
  return layer;
}

Result<Block> open_block(runtime::Weights& weights, const std::string& path, const Sizes& sizes) {
  Block block;
  LS_TRY(block.img, open_stream(weights, path, kImage, sizes));
  LS_TRY(block.txt, open_stream(weights, path, kText, sizes));
  LS_TRY(block.fp8_attention, weights.fp8_attention(path + "attn", sizes.heads.dim));
  return block;
}

}  // namespace loadstone::networks::qwen_image
