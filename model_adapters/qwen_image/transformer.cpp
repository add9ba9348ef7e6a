#include "qwen_image/transformer.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>

#include <cmath>
#include <numeric>

#include "common/rows.hpp"
#include "common/timestep.hpp"
#include "qwen_image/modules.hpp"
#include "qwen_image/passes.hpp"
#include "runtime/attention.hpp"
#include "runtime/device_memory.hpp"
#include "runtime/side_queue.hpp"

namespace loadstone::networks::qwen_image {
namespace {

constexpr double kTheta = 10000.0;  // of the rotary positions
constexpr int64_t kTimeFeatures = 256;

/// What modulates a norm: two vectors [width].
struct Affine {
  at::Tensor scale, shift;
};

/// Six rows of a modulation vector [6·width]: shift, scale and gate of either half of a block.
struct Modulation {
  Affine norm1, norm2;
  at::Tensor gate1, gate2;
  Modulation(const at::Tensor& all, int64_t width)
      : norm1{all.narrow(0, width, width), all.narrow(0, 0, width)},
        norm2{all.narrow(0, 4 * width, width), all.narrow(0, 3 * width, width)},
        gate1(all.narrow(0, 2 * width, width)),
        gate2(all.narrow(0, 5 * width, width)) {}
};

/// A stream between blocks: its rows, and their norm as what comes next reads it.
struct Rows {
  at::Tensor x, normed;
};

/// q, k and v of one stream: of all passes at once, or (on a GPU, where nothing is gained by that)
/// of each pass straight into the rows that its attention reads.
class Projection {
 public:
  Projection(const Stream& stream, const HeadCounts& heads, const at::Tensor& x,
             const std::vector<int64_t>& passes, int64_t batch)
      : stream_(stream), heads_(heads), x_(x), passes_(passes) {
    const bool at_once = passes.size() > 1 && stream.qkv->rows_are_independent();
    if (x.is_cpu() || batch > 1 || at_once) all_ = apply_without_bias(*stream.qkv, x, passes);
  }

  /// Those of pass p, which begins at row `first`, normed and rotated in rows [offset, …) of
  /// `placed`.
  void place(size_t p, int64_t first, const RotaryTable& table, at::Tensor& placed,
             int64_t offset) const {
    at::Tensor rows, bias = all_.bias;
    if (all_.y.defined()) {
      rows = all_.y.narrow(0, first, passes_[p]);
    } else {
      rows = placed.select(0, 0).narrow(0, offset, passes_[p]);
      runtime::SharedActivation shared;
      bias = stream_.qkv->into_without_bias(x_.narrow(0, first, passes_[p]), rows, shared);
    }
    place_heads(rows, heads_, stream_.q_norm, stream_.k_norm, table, RotaryPairs::adjacent, placed,
                offset, bias);
  }

 private:
  const Stream& stream_;
  const HeadCounts& heads_;
  const at::Tensor& x_;
  const std::vector<int64_t>& passes_;
  Product all_;  // of all passes
};

/// x += gate·product; the norm is then `next`'s.
void add_then_norm(Rows& rows, const at::Tensor& gate, const Product& product, const Affine& next) {
  rows.normed =
      add_gated_then_norm(rows.x, gate, product.y, product.bias, next.scale, next.shift, kEps);
}

Product mlp(const Stream& stream, const at::Tensor& x, const std::vector<int64_t>& passes) {
  return apply_without_bias(*stream.down, apply_gelu(*stream.up, x, passes), passes);
}

}  // namespace

struct Transformer::Networks {
  Sizes sizes;
  at::TensorOptions options;
  LinearPtr img_in, txt_in, time1, time2, norm_out, proj_out;
  at::Tensor txt_norm;
  std::vector<Block> blocks;
  std::shared_ptr<runtime::RunState> state;
  std::unique_ptr<runtime::SideQueue> text_queue;

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

  /// Rows of each pass after attention; the text's only if it goes on.
  struct Attended {
    std::vector<at::Tensor> img, txt;
  };

  /// Attention of every pass over [text, image].
  void attend(const Block& block, const at::Tensor& img_x, const at::Tensor& txt_x,
              const std::vector<TextInput>& texts, const ImageGrid& grid, const Passes& passes,
              Attended& out, bool text_goes_on, runtime::SideQueue& aside) const;
  /// Leaves the streams normed for block + 1, or for the output after the last one; the text's only
  /// if it goes on. The text's own work is queued aside.
  void run_block(size_t block, Rows& img, Rows& txt, const std::vector<TextInput>& texts,
                 const StepModulation& step, const ImageGrid& grid, const Passes& passes,
                 bool text_goes_on, runtime::SideQueue& aside) const;
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
    LS_TRY(Block block, open_block(weights, path, sizes));
    n->blocks.push_back(std::move(block));
  }
  // Measured on an H100: a step of fp8 or int8 gains a twelfth, one of bf16 loses a thirtieth.
  n->text_queue = std::make_unique<runtime::SideQueue>(weights.device(),
                                                       n->blocks.back().txt.down->runs_by_method());
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

at::Tensor Transformer::text_rows(const at::Tensor& embeddings, int64_t batch,
                                  const Probe& probe) const {
  const Networks& n = *networks_;
  const at::Tensor normed = rms_norm(embeddings.contiguous(), n.txt_norm, kEps);
  const at::Tensor rows = (*n.txt_in)(normed);
  if (probe) {
    probe("txt_norm", normed.unsqueeze(0));
    probe("txt_in", rows.unsqueeze(0));
  }
  return batch == 1 ? rows : rows.repeat({batch, 1});
}

RotaryTable Transformer::text_rotary(int64_t tokens, const ImageGrid& grid) const {
  std::vector<int64_t> positions(static_cast<size_t>(tokens));
  std::iota(positions.begin(), positions.end(), std::max(grid.rows / 2, grid.columns / 2));
  return networks_->axes_table(positions, positions, positions);
}

at::Tensor Transformer::modulations(const at::Tensor& timesteps) const {
  const Networks& n = *networks_;
  const at::Tensor features = timestep_features(timesteps, kTimeFeatures).to(n.options.dtype());
  const at::Tensor temb = (*n.time2)(at::silu((*n.time1)(features)));
  const at::Tensor active = at::silu(temb);
  at::Tensor out = at::empty({timesteps.size(0), modulation_width()}, temb.options());
  out.narrow(1, 0, n.sizes.width).copy_(temb);
  int64_t at = n.sizes.width;
  runtime::SharedActivation shared;
  const auto put = [&](const runtime::Linear& layer) {
    at::Tensor columns = out.narrow(1, at, layer.out());
    layer.into(active, columns, shared);
    at += layer.out();
  };
  for (const Block& block : n.blocks) {
    put(*block.img.modulation);
    put(*block.txt.modulation);
  }
  put(*n.norm_out);
  return out;
}

StepModulation Transformer::modulation_of(const at::Tensor& row) const {
  const Networks& n = *networks_;
  StepModulation step;
  int64_t at = 0;
  const auto take = [&](int64_t rows) {
    const int64_t from = at;
    at += rows * n.sizes.width;
    return row.narrow(0, from, rows * n.sizes.width);
  };
  step.temb = take(1);
  for (size_t b = 0; b < n.blocks.size(); ++b) {
    step.img.push_back(take(6));
    step.txt.push_back(take(6));
  }
  step.out = take(2);
  return step;
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

int64_t Transformer::modulation_width() const {
  const Networks& n = *networks_;
  return (12 * static_cast<int64_t>(n.blocks.size()) + 3) * n.sizes.width;
}

int64_t Transformer::modulation_nbytes() const {
  return modulation_width() * static_cast<int64_t>(networks_->options.dtype().itemsize());
}

uint64_t Transformer::forward_nbytes(int64_t rows, bool quantized) const {
  const Networks& n = *networks_;
  const auto element = static_cast<int64_t>(n.options.dtype().itemsize());
  const int64_t width = n.sizes.width;
  int64_t inner = 0;
  for (const Block& block : n.blocks) inner = std::max(inner, block.img.up->out());
  // The streams and their norms. Then of either half of a block the larger: q, k and v as products
  // and as attention reads them, its output and the product behind it; or the MLP's middle and what
  // is made of it, and its output. A method may have codes and int32 sums beside that, and one
  // layer's weights decoded.
  const int64_t streams = 2 * width * element;
  const int64_t attention = 9 * width * element;
  const int64_t mlp = inner * (2 * element + (quantized ? 4 : 0)) + 2 * width * element;
  const int64_t weight = quantized ? width * inner * element : 0;
  return static_cast<uint64_t>(rows * (streams + std::max(attention, mlp)) + weight) +
         runtime::kLibrariesNbytes;
}

void Transformer::Networks::attend(const Block& block, const at::Tensor& img_x,
                                   const at::Tensor& txt_x, const std::vector<TextInput>& texts,
                                   const ImageGrid& grid, const Passes& passes, Attended& out,
                                   bool text_goes_on, runtime::SideQueue& aside) const {
  std::vector<at::Tensor> placed;
  for (const int64_t tokens : passes.txt_tokens) {
    placed.push_back(
        at::empty({passes.batch, tokens + grid.tokens(), sizes.heads.width()}, options));
  }
  aside.run([&] {
    const Projection qkv(block.txt, sizes.heads, txt_x, passes.txt, passes.batch);
    int64_t at = 0;
    for (size_t p = 0; p < placed.size(); at += passes.txt[p++]) {
      qkv.place(p, at, texts[p].rotary, placed[p], 0);
    }
  });
  const Projection qkv(block.img, sizes.heads, img_x, passes.img, passes.batch);
  int64_t at = 0;
  for (size_t p = 0; p < placed.size(); at += passes.img[p++]) {
    qkv.place(p, at, grid.rotary, placed[p], passes.txt_tokens[p]);
  }
  aside.join();
  for (size_t p = 0; p < placed.size(); ++p) {
    const int64_t tokens = passes.txt_tokens[p];
    // Queries of the text are needed only where its stream goes on.
    const int64_t first = text_goes_on ? 0 : tokens;
    const at::Tensor q = view_heads(placed[p], sizes.heads, 0, sizes.heads.q);
    const at::Tensor mixed = runtime::attention({
        .q = q.narrow(2, first, q.size(2) - first),
        .k = view_heads(placed[p], sizes.heads, sizes.heads.q, sizes.heads.q),
        .v = view_heads(placed[p], sizes.heads, 2 * sizes.heads.q, sizes.heads.q),
        .scale = 1.0 / std::sqrt(static_cast<double>(sizes.heads.dim)),
        .fp8 = state->runs_fp8_attention(block.fp8_attention),
    });
    aside.keep(mixed);
    out.img.push_back(mixed.narrow(1, tokens - first, grid.tokens()).reshape({-1, sizes.width}));
    if (text_goes_on) out.txt.push_back(mixed.narrow(1, 0, tokens).reshape({-1, sizes.width}));
  }
}

void Transformer::Networks::run_block(size_t index, Rows& img, Rows& txt,
                                      const std::vector<TextInput>& texts,
                                      const StepModulation& step, const ImageGrid& grid,
                                      const Passes& passes, bool text_goes_on,
                                      runtime::SideQueue& aside) const {
  const Block& block = blocks[index];
  const int64_t width = sizes.width;
  const bool last = index + 1 == blocks.size();
  const Modulation i(step.img[index], width), t(step.txt[index], width);
  Attended attended;
  attend(block, img.normed, txt.normed, texts, grid, passes, attended, text_goes_on, aside);
  if (text_goes_on) {
    for (const at::Tensor& rows : attended.txt) aside.keep(rows);
    aside.run([&] {
      add_then_norm(txt, t.gate1, apply_each(*block.txt.out, attended.txt), t.norm2);
      // After the last block nothing reads the text's norm.
      add_then_norm(txt, t.gate2, mlp(block.txt, txt.normed, passes.txt),
                    last ? t.norm1 : Modulation(step.txt[index + 1], width).norm1);
    });
  }
  add_then_norm(img, i.gate1, apply_each(*block.img.out, attended.img), i.norm2);
  add_then_norm(img, i.gate2, mlp(block.img, img.normed, passes.img),
                last ? Affine{step.out.narrow(0, 0, width), step.out.narrow(0, width, width)}
                     : Modulation(step.img[index + 1], width).norm1);
}

std::vector<at::Tensor> Transformer::forward(const at::Tensor& latents,
                                             const std::vector<TextInput>& texts,
                                             const StepModulation& step, const ImageGrid& grid,
                                             const Probe& probe) const {
  const Networks& n = *networks_;
  const int64_t width = n.sizes.width;
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
  const auto begin = [&](at::Tensor x, const at::Tensor& modulation) {
    const Affine norm = Modulation(modulation, width).norm1;
    at::Tensor normed = layer_norm_modulated(x, norm.scale, norm.shift, kEps);
    return Rows{std::move(x), std::move(normed)};
  };
  Rows img = begin(count == 1 ? embedded : embedded.repeat({count, 1}), step.img[0]);
  Rows txt = begin(at::cat(txt_rows, 0), step.txt[0]);  // a copy: blocks add in place
  if (probe) probe("temb", step.temb.unsqueeze(0));
  runtime::SideQueue in_place(n.options.device(), false);
  const bool alone = probe || n.state->observer;
  runtime::SideQueue& aside = alone ? in_place : *n.text_queue;
  for (size_t b = 0; b < n.blocks.size() && !n.state->stopped(); ++b) {
    n.run_block(b, img, txt, texts, step, grid, passes, b + 1 < n.blocks.size() || probe, aside);
    if (!probe) continue;
    const std::string name = "block" + std::to_string(b);
    probe(name + ".img", img.x.narrow(0, 0, passes.img[0]).view({passes.batch, -1, width}));
    probe(name + ".txt", txt.x.narrow(0, 0, passes.txt[0]).view({passes.batch, -1, width}));
  }
  aside.join();
  return apply(*n.proj_out, img.normed, passes.img).split(latents.size(0), 0);
}

at::Device Transformer::device() const { return networks_->options.device(); }
int64_t Transformer::latent_width() const { return networks_->sizes.latent; }
int64_t Transformer::text_width() const { return networks_->sizes.text; }

}  // namespace loadstone::networks::qwen_image
