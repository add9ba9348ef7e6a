#include "qwen_image/transformer.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>

#include <cmath>
#include <numeric>

#include "base/text.hpp"
#include "common/rows.hpp"
#include "common/timestep.hpp"
#include "runtime/attention.hpp"

namespace loadstone::networks::qwen_image {
namespace {

using runtime::Linear;
using LinearPtr = std::unique_ptr<Linear>;

constexpr double kEps = 1e-6;       // of every norm (the class's constant, not configured)
constexpr double kTheta = 10000.0;  // of the rotary positions
constexpr int64_t kTimeFeatures = 256;

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
};

/// Six rows of a modulation vector [6·width].
struct Modulation {
  at::Tensor shift1, scale1, gate1, shift2, scale2, gate2;
  Modulation(const at::Tensor& all, int64_t width)
      : shift1(all.narrow(0, 0, width)),
        scale1(all.narrow(0, width, width)),
        gate1(all.narrow(0, 2 * width, width)),
        shift2(all.narrow(0, 3 * width, width)),
        scale2(all.narrow(0, 4 * width, width)),
        gate2(all.narrow(0, 5 * width, width)) {}
};

/// A product over rows of several passes: at once where rows are independent, else a call a pass,
/// so that a scale of the whole input never sees another pass.
at::Tensor apply(const Linear& layer, const at::Tensor& x, const std::vector<int64_t>& passes) {
  if (passes.size() == 1 || layer.rows_are_independent()) return layer(x);
  at::Tensor y = at::empty({x.size(0), layer.out()}, x.options());
  int64_t at = 0;
  for (int64_t count : passes) {
    runtime::SharedActivation shared;
    at::Tensor rows = y.narrow(0, at, count);
    layer.into(x.narrow(0, at, count), rows, shared);
    at += count;
  }
  return y;
}

at::Tensor mlp(const Stream& stream, const at::Tensor& x, const std::vector<int64_t>& passes) {
  at::Tensor inner = apply(*stream.up, x, passes);
  at::gelu_(inner, "tanh");
  return apply(*stream.down, inner, passes);
}

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

Status check_shape(const Linear& layer, int64_t in, int64_t out, const std::string& path) {
  if (layer.in() == in && layer.out() == out) return {};
  return Error{Code::invalid_checkpoint,
               "layer has another shape",
               escaped(path),
               "found " + std::to_string(layer.out()) + "x" + std::to_string(layer.in()) +
                   ", expected " + std::to_string(out) + "x" + std::to_string(in) +
                   " as config.json says",
               "",
               {}};
}

Result<LinearPtr> open_linear(runtime::Weights& weights, const std::string& path, int64_t in,
                              int64_t out) {
  LS_TRY(LinearPtr layer, weights.linear(path));
  LS_CHECK(check_shape(*layer, in, out, path));
  return layer;
}

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

struct Transformer::Networks {
  Sizes sizes;
  at::TensorOptions options;
  LinearPtr img_in, txt_in, time1, time2, norm_out, proj_out;
  at::Tensor txt_norm;
  std::vector<Block> blocks;
  std::shared_ptr<runtime::RunState> state;

  /// Rows of each pass in the two streams, for apply().
  struct Passes {
    int64_t batch = 1;
    std::vector<int64_t> img, txt, txt_tokens;
  };

  RotaryTable axes_table(const std::vector<int64_t>& frame, const std::vector<int64_t>& row,
                         const std::vector<int64_t>& column) const {
    return rotary_table(at::cat({rotary_angles(frame, sizes.axes[0], kTheta),
                                 rotary_angles(row, sizes.axes[1], kTheta),
                                 rotary_angles(column, sizes.axes[2], kTheta)},
                                1),
                        options.device());
  }

  /// Attention of every pass over [text, image]; image rows to `img`, text rows to `txt` (if asked
  /// for), passes one after the other.
  void attend(const Block& block, const at::Tensor& img_x, const at::Tensor& txt_x,
              const std::vector<TextInput>& texts, const ImageGrid& grid, const Passes& passes,
              at::Tensor& img, at::Tensor* txt) const;
  void run_block(const Block& block, at::Tensor& img, at::Tensor& txt,
                 const std::vector<TextInput>& texts, const at::Tensor& img_modulation,
                 const at::Tensor& txt_modulation, const ImageGrid& grid, const Passes& passes,
                 bool text_goes_on) const;
};

Result<Transformer> Transformer::open(runtime::Weights& weights) {
  auto n = std::make_unique<Networks>();
  LS_TRY(n->sizes, read_sizes(weights.config()));
  const Sizes& sizes = n->sizes;
  const int64_t width = sizes.width;
  n->options = at::TensorOptions().dtype(weights.dtype()).device(weights.device());
  n->state = weights.state();
  const std::string time = "time_text_embed.timestep_embedder.linear_";
  LS_TRY(n->img_in, open_linear(weights, "img_in", sizes.latent, width));
  LS_TRY(n->txt_in, open_linear(weights, "txt_in", sizes.text, width));
  LS_TRY(n->time1, open_linear(weights, time + "1", kTimeFeatures, width));
  LS_TRY(n->time2, open_linear(weights, time + "2", width, width));
  LS_TRY(n->norm_out, open_linear(weights, "norm_out.linear", width, 2 * width));
  LS_TRY(n->proj_out, open_linear(weights, "proj_out", width, sizes.latent));
  LS_TRY(n->txt_norm, weights.tensor("txt_norm.weight"));
  for (int64_t i = 0; i < sizes.layers; ++i) {
    const std::string path = "transformer_blocks." + std::to_string(i) + ".";
    Block block;
    LS_TRY(block.img, open_stream(weights, path, kImage, sizes));
    LS_TRY(block.txt, open_stream(weights, path, kText, sizes));
    n->blocks.push_back(std::move(block));
  }
  return Transformer(std::move(n));
}

Transformer::Transformer(std::unique_ptr<Networks> networks) : networks_(std::move(networks)) {}
Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;
Transformer::~Transformer() = default;

ImageGrid Transformer::make_grid(int64_t rows, int64_t columns) const {
  ImageGrid grid{rows, columns, {}};
  std::vector<int64_t> frame, row, column;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      frame.push_back(0);
      row.push_back(r - (rows - rows / 2));
      column.push_back(c - (columns - columns / 2));
    }
  }
  grid.rotary = networks_->axes_table(frame, row, column);
  return grid;
}

TextInput Transformer::prepare_text(const at::Tensor& embeddings, int64_t batch,
                                    const ImageGrid& grid, const Probe& probe) const {
  const Networks& n = *networks_;
  TextInput out;
  out.tokens = embeddings.size(0);
  const at::Tensor normed = rms_norm(embeddings.contiguous(), n.txt_norm, kEps);
  const at::Tensor rows = (*n.txt_in)(normed);
  if (probe) {
    probe("txt_norm", normed.unsqueeze(0));
    probe("txt_in", rows.unsqueeze(0));
  }
  out.rows = batch == 1 ? rows : rows.repeat({batch, 1});
  std::vector<int64_t> positions(static_cast<size_t>(out.tokens));
  std::iota(positions.begin(), positions.end(), std::max(grid.rows / 2, grid.columns / 2));
  out.rotary = n.axes_table(positions, positions, positions);
  return out;
}

std::vector<StepModulation> Transformer::modulations(const at::Tensor& timesteps) const {
  const Networks& n = *networks_;
  const at::Tensor features = timestep_features(timesteps, kTimeFeatures);
  const at::Tensor temb = (*n.time2)(at::silu((*n.time1)(features)));
  const at::Tensor active = at::silu(temb);
  std::vector<StepModulation> out(static_cast<size_t>(timesteps.size(0)));
  auto spread = [&](const at::Tensor& all, auto place) {
    for (size_t s = 0; s < out.size(); ++s) place(out[s], all.select(0, static_cast<int64_t>(s)));
  };
  spread(temb, [](StepModulation& step, at::Tensor row) { step.temb = std::move(row); });
  for (const Block& block : n.blocks) {
    spread((*block.img.modulation)(active),
           [](StepModulation& step, at::Tensor row) { step.img.push_back(std::move(row)); });
    spread((*block.txt.modulation)(active),
           [](StepModulation& step, at::Tensor row) { step.txt.push_back(std::move(row)); });
  }
  spread((*n.norm_out)(active),
         [](StepModulation& step, at::Tensor row) { step.out = std::move(row); });
  return out;
}

bool Transformer::modulation_rows_are_independent() const {
  const Networks& n = *networks_;
  bool independent = n.time1->rows_are_independent() && n.time2->rows_are_independent() &&
                     n.norm_out->rows_are_independent();
  for (const Block& block : n.blocks) {
    independent = independent && block.img.modulation->rows_are_independent() &&
                  block.txt.modulation->rows_are_independent();
  }
  return independent;
}

int64_t Transformer::modulation_nbytes() const {
  const Networks& n = *networks_;
  return (12 * static_cast<int64_t>(n.blocks.size()) + 3) * n.sizes.width *
         static_cast<int64_t>(n.options.dtype().itemsize());
}

void Transformer::Networks::attend(const Block& block, const at::Tensor& img_x,
                                   const at::Tensor& txt_x, const std::vector<TextInput>& texts,
                                   const ImageGrid& grid, const Passes& passes, at::Tensor& img,
                                   at::Tensor* txt) const {
  const at::Tensor img_qkv = apply(*block.img.qkv, img_x, passes.img);
  const at::Tensor txt_qkv = apply(*block.txt.qkv, txt_x, passes.txt);
  std::vector<at::Tensor> img_rows, txt_rows;
  int64_t img_at = 0, txt_at = 0;
  for (size_t p = 0; p < texts.size(); ++p) {
    const int64_t tokens = passes.txt_tokens[p];
    at::Tensor placed =
        at::empty({passes.batch, tokens + grid.tokens(), sizes.heads.width()}, options);
    place_heads(txt_qkv.narrow(0, txt_at, passes.txt[p]), sizes.heads, block.txt.q_norm,
                block.txt.k_norm, texts[p].rotary, RotaryPairs::adjacent, placed, 0);
    place_heads(img_qkv.narrow(0, img_at, passes.img[p]), sizes.heads, block.img.q_norm,
                block.img.k_norm, grid.rotary, RotaryPairs::adjacent, placed, tokens);
    img_at += passes.img[p];
    txt_at += passes.txt[p];
    // Queries of the text are needed only where its stream goes on.
    const int64_t first = txt == nullptr ? tokens : 0;
    const at::Tensor q = view_heads(placed, sizes.heads, 0, sizes.heads.q);
    const at::Tensor mixed = runtime::attention({
        .q = q.narrow(2, first, q.size(2) - first),
        .k = view_heads(placed, sizes.heads, sizes.heads.q, sizes.heads.q),
        .v = view_heads(placed, sizes.heads, 2 * sizes.heads.q, sizes.heads.q),
        .scale = 1.0 / std::sqrt(static_cast<double>(sizes.heads.dim)),
    });
    img_rows.push_back(mixed.narrow(1, tokens - first, grid.tokens()).reshape({-1, sizes.width}));
    if (txt != nullptr) {
      txt_rows.push_back(mixed.narrow(1, 0, tokens).reshape({-1, sizes.width}));
    }
  }
  img = img_rows.size() == 1 ? img_rows[0] : at::cat(img_rows, 0);
  if (txt != nullptr) *txt = txt_rows.size() == 1 ? txt_rows[0] : at::cat(txt_rows, 0);
}

void Transformer::Networks::run_block(const Block& block, at::Tensor& img, at::Tensor& txt,
                                      const std::vector<TextInput>& texts,
                                      const at::Tensor& img_modulation,
                                      const at::Tensor& txt_modulation, const ImageGrid& grid,
                                      const Passes& passes, bool text_goes_on) const {
  const Modulation i(img_modulation, sizes.width), t(txt_modulation, sizes.width);
  at::Tensor img_mixed, txt_mixed;
  attend(block, layer_norm_modulated(img, i.scale1, i.shift1, kEps),
         layer_norm_modulated(txt, t.scale1, t.shift1, kEps), texts, grid, passes, img_mixed,
         text_goes_on ? &txt_mixed : nullptr);
  add_gated(img, i.gate1, apply(*block.img.out, img_mixed, passes.img));
  add_gated(img, i.gate2,
            mlp(block.img, layer_norm_modulated(img, i.scale2, i.shift2, kEps), passes.img));
  if (!text_goes_on) return;
  add_gated(txt, t.gate1, apply(*block.txt.out, txt_mixed, passes.txt));
  add_gated(txt, t.gate2,
            mlp(block.txt, layer_norm_modulated(txt, t.scale2, t.shift2, kEps), passes.txt));
}

std::vector<at::Tensor> Transformer::forward(const at::Tensor& latents,
                                             const std::vector<TextInput>& texts,
                                             const StepModulation& step, const ImageGrid& grid,
                                             const Probe& probe) const {
  const Networks& n = *networks_;
  Networks::Passes passes;
  passes.batch = latents.size(0) / grid.tokens();
  std::vector<at::Tensor> txt_rows;
  for (const TextInput& text : texts) {
    passes.img.push_back(latents.size(0));
    passes.txt.push_back(text.rows.size(0));
    passes.txt_tokens.push_back(text.tokens);
    txt_rows.push_back(text.rows);
  }
  const int64_t count = static_cast<int64_t>(texts.size());
  const at::Tensor embedded = (*n.img_in)(latents.contiguous());
  at::Tensor img = count == 1 ? embedded : embedded.repeat({count, 1});
  at::Tensor txt = at::cat(txt_rows, 0);  // a copy: blocks add in place
  if (probe) probe("temb", step.temb.unsqueeze(0));
  for (size_t b = 0; b < n.blocks.size() && !n.state->stopped(); ++b) {
    const bool text_goes_on = b + 1 < n.blocks.size() || probe;
    n.run_block(n.blocks[b], img, txt, texts, step.img[b], step.txt[b], grid, passes, text_goes_on);
    if (!probe) continue;
    const std::string name = "block" + std::to_string(b);
    probe(name + ".img", img.narrow(0, 0, passes.img[0]).view({passes.batch, -1, n.sizes.width}));
    probe(name + ".txt", txt.narrow(0, 0, passes.txt[0]).view({passes.batch, -1, n.sizes.width}));
  }
  const at::Tensor scale = step.out.narrow(0, 0, n.sizes.width);
  const at::Tensor shift = step.out.narrow(0, n.sizes.width, n.sizes.width);
  const at::Tensor velocity =
      apply(*n.proj_out, layer_norm_modulated(img, scale, shift, kEps), passes.img);
  return velocity.split(latents.size(0), 0);
}

at::Device Transformer::device() const { return networks_->options.device(); }
int64_t Transformer::latent_width() const { return networks_->sizes.latent; }
int64_t Transformer::text_width() const { return networks_->sizes.text; }

}  // namespace loadstone::networks::qwen_image
