#include "common/causal_vae.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/text.hpp"
#include "common/causal_blocks.hpp"

namespace loadstone::networks {

namespace {

constexpr uint64_t kMostWorkspace = 256u << 20;  // that a convolution's plan is taken to use

std::string numbered(const std::string& path, size_t index) {
  return path + "." + std::to_string(index);
}

/// Residual block, attention, residual block.
struct MidBlock {
  ResidualBlock first;
  PixelAttention attention;
  ResidualBlock second;

  static Result<MidBlock> open(runtime::Weights& weights, const std::string& path) {
    LS_TRY(auto first, ResidualBlock::open(weights, path + ".resnets.0"));
    LS_TRY(auto attention, PixelAttention::open(weights, path + ".attentions.0"));
    LS_TRY(auto second, ResidualBlock::open(weights, path + ".resnets.1"));
    return MidBlock{std::move(first), std::move(attention), std::move(second)};
  }
  at::Tensor operator()(const at::Tensor& x) const { return second(attention(first(x))); }
};

/// Rows [begin, end) of a frame.
struct RowRange {
  int64_t begin = 0, end = 0;
  /// `rows` more on both sides, as far as a frame of `height` goes.
  RowRange widened(int64_t rows, int64_t height) const {
    return {std::max<int64_t>(begin - rows, 0), std::min(end + rows, height)};
  }
};

/// Rows `wanted` of a tensor that holds rows `held`.
at::Tensor rows_of(const at::Tensor& x, const RowRange& held, const RowRange& wanted) {
  return x.narrow(2, wanted.begin - held.begin, wanted.end - wanted.begin);
}

/// Residual blocks, then doubling (all stages but the last) through a convolution.
struct UpStage {
  std::vector<ResidualBlock> blocks;
  std::optional<FrameConv> doubling;

  int64_t factor() const { return doubling ? 2 : 1; }
  /// Rows behind the blocks that rows `wanted` of the output are made of.
  RowRange behind_blocks(const RowRange& wanted, int64_t height) const {
    if (!doubling) return wanted;
    const RowRange wide = wanted.widened(doubling->reach(), 2 * height);
    return {wide.begin / 2, (wide.end + 1) / 2};
  }
  /// Rows of an input of `height` rows that rows `wanted` of the output are made of.
  RowRange needs(const RowRange& wanted, int64_t height) const {
    int64_t reach = 0;
    for (const ResidualBlock& block : blocks) reach += block.reach();
    return behind_blocks(wanted, height).widened(reach, height);
  }
  /// Rows `wanted` of the output from rows `held` of an input of `height` rows, at least needs().
  /// What convolutions' zeros at a strip's edges spoil is never among them.
  at::Tensor strip(at::Tensor x, const RowRange& held, int64_t height, const RowRange& wanted,
                   const runtime::RunState& state) const {
    for (const ResidualBlock& block : blocks) {
      if (state.stopped()) return {};
      x = block(x);
    }
    const RowRange kept = behind_blocks(wanted, height);
    x = rows_of(x, held, kept);
    if (!doubling) return x;
    x = (*doubling)(at::upsample_nearest2d(x, {x.size(2) * 2, x.size(3) * 2}));
    return rows_of(x, {2 * kept.begin, 2 * kept.end}, wanted);
  }
};

/// Residual blocks, then halving (all stages but the last).
struct DownStage {
  std::vector<ResidualBlock> blocks;
  std::optional<FrameConv> halving;

  at::Tensor operator()(at::Tensor x) const {
    for (const ResidualBlock& block : blocks) x = block(x);
    return halving ? halving->halving(x) : x;
  }
};

struct Decoder {
  FrameConv post_quant, conv_in;
  MidBlock mid;
  std::vector<UpStage> stages;
  ChannelNorm norm_out;
  FrameConv conv_out;

  /// Undefined when the run is stopped. The attention of the middle block reads every pixel; what
  /// follows it reads a few rows round each, and is computed `strip_rows` of the picture at a time.
  at::Tensor operator()(const at::Tensor& latents, int64_t strip_rows,
                        const runtime::RunState& state) const {
    const at::Tensor middle = mid(conv_in(post_quant(latents)));
    int64_t height = middle.size(2);
    for (const UpStage& stage : stages) height *= stage.factor();
    if (strip_rows >= height) return strip(middle, {0, height}, state);
    std::vector<at::Tensor> strips;
    for (int64_t row = 0; row < height; row += strip_rows) {
      strips.push_back(strip(middle, {row, std::min(row + strip_rows, height)}, state));
      if (!strips.back().defined()) return {};
    }
    return at::cat(strips, 2);
  }

 private:
  at::Tensor strip(const at::Tensor& middle, const RowRange& wanted,
                   const runtime::RunState& state) const {
    // From the picture back to the middle block: what each stage has to hand on.
    std::vector<int64_t> heights = {middle.size(2)};
    for (const UpStage& stage : stages) heights.push_back(heights.back() * stage.factor());
    std::vector<RowRange> ranges(stages.size() + 1);
    ranges.back() = wanted.widened(conv_out.reach(), heights.back());
    for (size_t s = stages.size(); s-- > 0;) {
      ranges[s] = stages[s].needs(ranges[s + 1], heights[s]);
    }
    at::Tensor x = rows_of(middle, {0, heights[0]}, ranges[0]);
    for (size_t s = 0; s < stages.size(); ++s) {
      x = stages[s].strip(std::move(x), ranges[s], heights[s], ranges[s + 1], state);
      if (!x.defined()) return x;
    }
    return rows_of(conv_out(norm_out(x, true)), ranges.back(), wanted);
  }
};

struct Encoder {
  FrameConv conv_in;
  std::vector<DownStage> stages;
  MidBlock mid;
  ChannelNorm norm_out;
  FrameConv conv_out, quant;

  at::Tensor operator()(const at::Tensor& pictures) const {
    at::Tensor x = conv_in(pictures);
    for (const DownStage& stage : stages) x = stage(x);
    return quant(conv_out(norm_out(mid(x), true)));
  }
};

Result<Decoder> open_decoder(runtime::Weights& weights, size_t stages, size_t blocks) {
  LS_TRY(auto post_quant, FrameConv::open(weights, "post_quant_conv"));
  LS_TRY(auto conv_in, FrameConv::open(weights, "decoder.conv_in"));
  LS_TRY(auto mid, MidBlock::open(weights, "decoder.mid_block"));
  std::vector<UpStage> up(stages);
  for (size_t s = 0; s < stages; ++s) {
    const std::string path = numbered("decoder.up_blocks", s);
    for (size_t b = 0; b < blocks + 1; ++b) {
      LS_TRY(auto block, ResidualBlock::open(weights, numbered(path + ".resnets", b)));
      up[s].blocks.push_back(std::move(block));
    }
    if (s + 1 < stages) {
      LS_TRY(up[s].doubling, FrameConv::open(weights, path + ".upsamplers.0.resample.1"));
    }
  }
  LS_TRY(auto norm_out, ChannelNorm::open(weights, "decoder.norm_out"));
  LS_TRY(auto conv_out, FrameConv::open(weights, "decoder.conv_out"));
  return Decoder{std::move(post_quant), std::move(conv_in),  std::move(mid),
                 std::move(up),         std::move(norm_out), std::move(conv_out)};
}

Result<Encoder> open_encoder(runtime::Weights& weights, size_t stages, size_t blocks) {
  LS_TRY(auto conv_in, FrameConv::open(weights, "encoder.conv_in"));
  std::vector<DownStage> down(stages);
  size_t index = 0;  // blocks and resamplers are numbered together
  for (size_t s = 0; s < stages; ++s) {
    for (size_t b = 0; b < blocks; ++b) {
      LS_TRY(auto block, ResidualBlock::open(weights, numbered("encoder.down_blocks", index++)));
      down[s].blocks.push_back(std::move(block));
    }
    if (s + 1 < stages) {
      LS_TRY(down[s].halving,
             FrameConv::open(weights, numbered("encoder.down_blocks", index++) + ".resample.1"));
    }
  }
  LS_TRY(auto mid, MidBlock::open(weights, "encoder.mid_block"));
  LS_TRY(auto norm_out, ChannelNorm::open(weights, "encoder.norm_out"));
  LS_TRY(auto conv_out, FrameConv::open(weights, "encoder.conv_out"));
  LS_TRY(auto quant, FrameConv::open(weights, "quant_conv"));
  return Encoder{std::move(conv_in),  std::move(down),     std::move(mid),
                 std::move(norm_out), std::move(conv_out), std::move(quant)};
}

Result<at::Tensor> read_statistic(const Node& config, const char* key, int64_t channels) {
  const Node* list = config.find(key);
  if (list == nullptr || !list->is_list() ||
      list->items().size() != static_cast<size_t>(channels)) {
    return Error{Code::invalid_checkpoint,
                 "model configuration rejected",
                 config.mark().text(),
                 "found " + (list == nullptr ? std::string("nothing") : list->describe()) + " as " +
                     key + ", expected a list of " + std::to_string(channels) + " numbers",
                 "",
                 {}};
  }
  std::vector<float> values;
  for (const Node& item : list->items()) {
    if (!item.is_numeric()) {
      return Error{Code::invalid_checkpoint,
                   "model configuration rejected",
                   item.mark().text(),
                   "found " + item.describe() + " in " + key + ", expected a number",
                   "",
                   {}};
    }
    values.push_back(static_cast<float>(item.number()));
  }
  return at::tensor(values).view({1, channels, 1, 1});
}

}  // namespace

struct CausalVae::Networks {
  std::optional<Encoder> encoder;
  std::optional<Decoder> decoder;
  LatentStatistics statistics;
  int64_t channels = 0;
  int64_t scale = 1;
  at::Device device = at::kCPU;
  uint64_t element = 4;  // bytes of a value
  std::shared_ptr<runtime::RunState> state;
};

Result<CausalVae> CausalVae::open(runtime::Weights& weights) {
  const Node& config = weights.config();
  LS_CHECK(runtime::config_must_be_off(config, "is_residual"));
  if (const Node* scales = config.find("attn_scales");
      scales != nullptr && scales->is_list() && !scales->items().empty()) {
    return Error{Code::unsupported,
                 "model variant is not supported",
                 scales->mark().text(),
                 "found attn_scales " + scales->to_json() + ", expected none",
                 "",
                 {}};
  }
  LS_TRY(const auto multipliers, runtime::config_counts(config, "dim_mult"));
  LS_TRY(const int64_t blocks, runtime::config_count(config, "num_res_blocks"));
  auto networks = std::make_unique<Networks>();
  networks->state = weights.state();
  LS_TRY(networks->channels, runtime::config_count(config, "z_dim"));
  const size_t stages = multipliers.size();
  networks->device = weights.device();
  networks->element = c10::elementSize(weights.dtype());
  networks->scale = int64_t{1} << (stages - 1);
  LS_TRY(networks->statistics.mean, read_statistic(config, "latents_mean", networks->channels));
  LS_TRY(networks->statistics.deviation, read_statistic(config, "latents_std", networks->channels));
  networks->statistics.mean = networks->statistics.mean.to(networks->device);
  networks->statistics.deviation = networks->statistics.deviation.to(networks->device);
  LS_TRY(networks->decoder, open_decoder(weights, stages, static_cast<size_t>(blocks)));
  if (weights.has_tensor("encoder.conv_in.weight")) {
    LS_TRY(networks->encoder, open_encoder(weights, stages, static_cast<size_t>(blocks)));
  }
  return CausalVae(std::move(networks));
}

CausalVae::CausalVae(std::unique_ptr<Networks> networks) : networks_(std::move(networks)) {}
CausalVae::CausalVae(CausalVae&&) noexcept = default;
CausalVae& CausalVae::operator=(CausalVae&&) noexcept = default;
CausalVae::~CausalVae() = default;

at::Tensor CausalVae::decode(const at::Tensor& latents, int64_t strip_rows) const {
  const at::Tensor pictures = (*networks_->decoder)(
      latents, strip_rows > 0 ? strip_rows : latents.size(2) * networks_->scale, *networks_->state);
  if (pictures.defined()) return at::clamp(pictures, -1.0, 1.0);
  return at::zeros(
      {latents.size(0), 3, latents.size(2) * networks_->scale, latents.size(3) * networks_->scale},
      latents.options());
}

uint64_t CausalVae::decode_nbytes(int64_t batch, int64_t height, int64_t width) const {
  const uint64_t element = networks_->element;
  const auto frame =
      static_cast<uint64_t>(batch * (height / networks_->scale) * (width / networks_->scale));
  uint64_t most = 0, grown = 1;  // grown: pixels for one of the latents
  for (const UpStage& stage : networks_->decoder->stages) {
    uint64_t channels = 0;
    for (const ResidualBlock& block : stage.blocks) {
      channels = std::max(
          {channels, static_cast<uint64_t>(block.in()), static_cast<uint64_t>(block.out())});
    }
    const uint64_t values = frame * grown * channels;
    // A block: its input, a convolution's output, a norm's float32 copy and result.
    most = std::max(most, values * (3 * element + 4));
    if (!stage.doubling) continue;
    grown *= 4;
    // Doubling: what is doubled, four times as much, and the convolution's output. In float32 cuDNN
    // lays the last two out once more (measured on an H100: 26.7 bytes for each value of a picture
    // of 96 channels, of which these are 26).
    const uint64_t made = frame * grown * static_cast<uint64_t>(stage.doubling->out());
    const uint64_t layouts = element == 4 ? 2 : 1;
    most = std::max(most, (values + layouts * (4 * values + made)) * element);
  }
  return most + std::min(most, kMostWorkspace);
}

Encoded CausalVae::encode(const at::Tensor& pictures) const {
  const at::Tensor moments = (*networks_->encoder)(pictures);
  return {moments.narrow(1, 0, networks_->channels),
          at::clamp(moments.narrow(1, networks_->channels, networks_->channels), -30.0, 20.0)};
}

bool CausalVae::has_encoder() const { return networks_->encoder.has_value(); }
int64_t CausalVae::latent_channels() const { return networks_->channels; }
at::Device CausalVae::device() const { return networks_->device; }
int64_t CausalVae::scale() const { return networks_->scale; }
const LatentStatistics& CausalVae::statistics() const { return networks_->statistics; }

}  // namespace loadstone::networks
