#include "common/causal_blocks.hpp"

#include <ATen/ops/add.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/silu.h>

#include <cmath>

#include "base/text.hpp"
#include "common/row_kernels.hpp"
#include "runtime/attention.hpp"

namespace loadstone::networks {

using namespace kernels;  // NOLINT(google-build-using-namespace)

Result<FrameConv> FrameConv::open(runtime::Weights& weights, const std::string& path) {
  FrameConv conv;
  LS_TRY(at::Tensor weight, weights.tensor(path + ".weight"));
  if (weight.dim() == 5) weight = weight.select(2, weight.size(2) - 1);
  if (weight.dim() != 4 || weight.size(2) != weight.size(3) || weight.size(2) % 2 == 0) {
    return Error{Code::invalid_checkpoint,
                 "convolution rejected",
                 escaped(path + ".weight"),
                 "found " + std::to_string(weight.dim()) +
                     " axes or an even or oblong kernel, expected [out, in, (t,) k, k] with odd k",
                 "",
                 {}};
  }
  conv.weight_ = weight.contiguous(at::MemoryFormat::ChannelsLast);
  LS_TRY(conv.bias_, weights.tensor(path + ".bias"));
  return conv;
}

at::Tensor FrameConv::operator()(const at::Tensor& x) const {
  const int64_t padding = weight_.size(2) / 2;
  return at::conv2d(x, weight_, bias_, {1, 1}, {padding, padding});
}

at::Tensor FrameConv::halving(const at::Tensor& x) const {
  return at::conv2d(at::constant_pad_nd(x, {0, 1, 0, 1}), weight_, bias_, {2, 2});
}

Result<ChannelNorm> ChannelNorm::open(runtime::Weights& weights, const std::string& path) {
  ChannelNorm norm;
  LS_TRY(at::Tensor gamma, weights.tensor(path + ".gamma"));
  norm.gamma_ = gamma.reshape({-1});
  return norm;
}

at::Tensor ChannelNorm::operator()(const at::Tensor& x, bool silu) const {
  if (!x.is_cpu()) {
    at::Tensor wide = x.to(at::kFloat);
    const at::Tensor length = at::linalg_vector_norm(wide, 2, {1}, true).clamp_min_(1e-12);
    const at::Tensor gamma = gamma_.to(at::kFloat).view({1, -1, 1, 1});
    const double to_root = std::sqrt(static_cast<double>(x.size(1)));
    // A widened copy is ours to overwrite: at 1024x1024 one more is 0.4 GB.
    if (wide.is_same(x)) {
      wide = wide.div(length);
    } else {
      wide.div_(length);
    }
    at::Tensor normed = wide.mul_(to_root).mul_(gamma).to(x.scalar_type());
    return silu ? at::silu_(normed) : normed;
  }
  // Channels last: a pixel's channels are one dense row.
  const at::Tensor dense = x.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor out = at::empty_like(dense);
  const int64_t channels = x.size(1), pixels = x.numel() / channels;
  const float root = std::sqrt(static_cast<float>(channels));
  with_type(dense, [&]<typename T>() {
    const T* from = dense.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    over_rows(pixels, channels, [&](int64_t begin, int64_t end) {
      std::vector<float> row_scratch, gamma_scratch;
      const float* gamma = widened(gamma_.const_data_ptr<T>(), channels, gamma_scratch);
      Target<T> target;
      for (int64_t p = begin; p < end; ++p) {
        const float* row = widened(from + p * channels, channels, row_scratch);
        const float length = std::max(std::sqrt(sum_squares(row, channels)), 1e-12f);
        scale_by(row, root / length, gamma, target.row(to + p * channels, channels), channels);
        target.finish();
      }
    });
  });
  if (silu) at::silu_(out);
  return out;
}

Result<ResidualBlock> ResidualBlock::open(runtime::Weights& weights, const std::string& path) {
  LS_TRY(auto norm1, ChannelNorm::open(weights, path + ".norm1"));
  LS_TRY(auto conv1, FrameConv::open(weights, path + ".conv1"));
  LS_TRY(auto norm2, ChannelNorm::open(weights, path + ".norm2"));
  LS_TRY(auto conv2, FrameConv::open(weights, path + ".conv2"));
  std::optional<FrameConv> shortcut;
  if (conv1.in() != conv2.out()) {
    LS_TRY(shortcut, FrameConv::open(weights, path + ".conv_shortcut"));
  }
  return ResidualBlock(std::move(norm1), std::move(conv1), std::move(norm2), std::move(conv2),
                       std::move(shortcut));
}

at::Tensor ResidualBlock::operator()(const at::Tensor& x) const {
  // Statements, not one expression: what one has read is freed before the next.
  at::Tensor y = conv1_(norm1_(x, true));
  y = norm2_(y, true);
  y = conv2_(y);
  return y.add_(shortcut_ ? (*shortcut_)(x) : x);
}

Result<PixelAttention> PixelAttention::open(runtime::Weights& weights, const std::string& path) {
  LS_TRY(auto norm, ChannelNorm::open(weights, path + ".norm"));
  LS_TRY(auto to_qkv, FrameConv::open(weights, path + ".to_qkv"));
  LS_TRY(auto proj, FrameConv::open(weights, path + ".proj"));
  return PixelAttention(std::move(norm), std::move(to_qkv), std::move(proj));
}

at::Tensor PixelAttention::operator()(const at::Tensor& x) const {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const at::Tensor qkv =
      to_qkv_(norm_(x, false)).permute({0, 2, 3, 1}).reshape({batch, 1, height * width, -1});
  const at::Tensor mixed = runtime::attention({
      .q = qkv.narrow(3, 0, channels),
      .k = qkv.narrow(3, channels, channels),
      .v = qkv.narrow(3, 2 * channels, channels),
      .scale = 1.0 / std::sqrt(static_cast<double>(channels)),
  });
  const at::Tensor frame = mixed.view({batch, height, width, channels}).permute({0, 3, 1, 2});
  return at::add(proj_(frame), x);
}

}  // namespace loadstone::networks
