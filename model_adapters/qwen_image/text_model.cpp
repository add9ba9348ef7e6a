#include "qwen_image/text_model.hpp"

#include <ATen/ops/empty.h>

#include <cmath>
#include <map>
#include <numeric>

#include "base/text.hpp"
#include "common/heads.hpp"
#include "common/layer_shape.hpp"
#include "common/rows.hpp"
#include "runtime/attention.hpp"
#include "runtime/device_memory.hpp"

namespace loadstone::networks::qwen_image {
namespace {

using runtime::Linear;

struct Sizes {
  int64_t width = 0, layers = 0, vocabulary = 0;
  HeadCounts heads;
  double eps = 0, theta = 0;
};

/// x + o(attention(norm(x))), then x + down(silu(gate)·up) of norm(x).
struct Layer {
  at::Tensor input_norm, post_norm;
  std::unique_ptr<Linear> qkv, o, gate_up, down;
};

Result<double> read_theta(const Node& text) {
  if (const Node* rope = text.find("rope_parameters"); rope != nullptr && rope->is_map()) {
    return runtime::config_number(*rope, "rope_theta", 1e6);
  }
  return runtime::config_number(text, "rope_theta", 1e6);
}

Result<Sizes> read_sizes(const Node& config) {
  const Node* nested = config.find("text_config");
  const Node& text = nested != nullptr && nested->is_map() ? *nested : config;
  LS_CHECK(runtime::config_must_be_off(text, "use_sliding_window"));
  Sizes out;
  LS_TRY(out.width, runtime::config_count(text, "hidden_size"));
  LS_TRY(out.layers, runtime::config_count(text, "num_hidden_layers"));
  LS_TRY(out.vocabulary, runtime::config_count(text, "vocab_size"));
  LS_TRY(out.heads.q, runtime::config_count(text, "num_attention_heads"));
  LS_TRY(out.heads.kv, runtime::config_count(text, "num_key_value_heads"));
  if (const Node* dim = text.find("head_dim"); dim != nullptr && !dim->is_null()) {
    LS_TRY(out.heads.dim, runtime::config_count(text, "head_dim"));
  } else {
    out.heads.dim = out.width / out.heads.q;
  }
  LS_TRY(out.eps, runtime::config_number(text, "rms_norm_eps", 1e-6));
  LS_TRY(out.theta, read_theta(text));
  if (out.heads.q % out.heads.kv != 0 || out.heads.dim % 2 != 0) {
    return Error{Code::invalid_checkpoint,
                 "model configuration rejected",
                 text.mark().text(),
                 "found " + std::to_string(out.heads.q) + " heads of " +
                     std::to_string(out.heads.dim) + " over " + std::to_string(out.heads.kv) +
                     ", expected a multiple and an even width",
                 "",
                 {}};
  }
  return out;
}

Result<Layer> open_layer(runtime::Weights& weights, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + ".self_attn.", mlp = path + ".mlp.";
  Layer out;
  LS_TRY(out.input_norm, weights.tensor(path + ".input_layernorm.weight"));
  LS_TRY(out.post_norm, weights.tensor(path + ".post_attention_layernorm.weight"));
  const std::string qkv[] = {attention + "q_proj", attention + "k_proj", attention + "v_proj"};
  const std::string gate_up[] = {mlp + "gate_proj", mlp + "up_proj"};
  LS_TRY(out.qkv, weights.fused(attention + "qkv_proj", qkv));
  LS_TRY(out.o, weights.linear(attention + "o_proj"));
  LS_TRY(out.gate_up, weights.fused(mlp + "gate_up_proj", gate_up));
  LS_TRY(out.down, weights.linear(mlp + "down_proj"));
  const int64_t inner = out.down->in();
  LS_CHECK(check_shape(*out.qkv, sizes.width, sizes.heads.width(), qkv[0]));
  LS_CHECK(check_shape(*out.o, sizes.heads.q * sizes.heads.dim, sizes.width, attention + "o_proj"));
  LS_CHECK(check_shape(*out.gate_up, sizes.width, 2 * inner, gate_up[0]));
  LS_CHECK(check_shape(*out.down, inner, sizes.width, mlp + "down_proj"));
  return out;
}

}  // namespace

struct TextModel::Networks {
  Sizes sizes;
  std::unique_ptr<runtime::Embedding> embedding;
  std::vector<Layer> layers;
  at::Tensor final_norm;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  std::shared_ptr<runtime::RunState> state;
  std::map<int64_t, RotaryTable> tables;  // by length, at most 546 of them

  at::Tensor attend(const Layer& layer, const at::Tensor& x, const RotaryTable& table) const {
    const HeadCounts& heads = sizes.heads;
    at::Tensor placed = at::empty({1, x.size(0), heads.width()}, x.options());
    place_heads((*layer.qkv)(x), heads, {}, {}, table, RotaryPairs::halves, placed, 0);
    const at::Tensor mixed = runtime::attention({
        .q = view_heads(placed, heads, 0, heads.q),
        .k = view_heads(placed, heads, heads.q, heads.kv),
        .v = view_heads(placed, heads, heads.q + heads.kv, heads.kv),
        .scale = 1.0 / std::sqrt(static_cast<double>(heads.dim)),
        .causal = true,
    });
    return (*layer.o)(mixed.squeeze(0));
  }
};

Result<TextModel> TextModel::open(runtime::Weights& weights) {
  auto networks = std::make_unique<Networks>();
  LS_TRY(networks->sizes, read_sizes(weights.config()));
  networks->state = weights.state();
  networks->device = weights.device();
  networks->dtype = weights.dtype();
  // Published names, and those that the library uses in memory.
  const std::string root =
      weights.has_layer("model.language_model.embed_tokens") ? "model.language_model" : "model";
  LS_TRY(networks->embedding, weights.embedding(root + ".embed_tokens"));
  for (int64_t i = 0; i < networks->sizes.layers; ++i) {
    LS_TRY(auto layer, open_layer(weights, root + ".layers." + std::to_string(i), networks->sizes));
    networks->layers.push_back(std::move(layer));
  }
  LS_TRY(networks->final_norm, weights.tensor(root + ".norm.weight"));
  return TextModel(std::move(networks));
}

TextModel::TextModel(std::unique_ptr<Networks> networks) : networks_(std::move(networks)) {}
TextModel::TextModel(TextModel&&) noexcept = default;
TextModel& TextModel::operator=(TextModel&&) noexcept = default;
TextModel::~TextModel() = default;

at::Tensor TextModel::forward(const at::Tensor& ids) const {
  Networks& n = *networks_;
  RotaryTable& table = n.tables[ids.size(0)];
  if (!table.cosine.defined()) {
    std::vector<int64_t> positions(static_cast<size_t>(ids.size(0)));
    std::iota(positions.begin(), positions.end(), 0);
    table = rotary_table(rotary_angles(positions, n.sizes.heads.dim, n.sizes.theta), n.device);
  }
  at::Tensor x = (*n.embedding)(ids.to(n.device));
  for (const Layer& layer : n.layers) {
    if (n.state->stopped()) break;
    x = x.add(n.attend(layer, rms_norm(x, layer.input_norm, n.sizes.eps), table));
    const at::Tensor inner = swiglu((*layer.gate_up)(rms_norm(x, layer.post_norm, n.sizes.eps)));
    x = x.add((*layer.down)(inner));
  }
  return rms_norm(x, n.final_norm, n.sizes.eps);
}

at::Device TextModel::device() const { return networks_->device; }
int64_t TextModel::vocabulary() const { return networks_->sizes.vocabulary; }
int64_t TextModel::width() const { return networks_->sizes.width; }

uint64_t TextModel::forward_nbytes(int64_t tokens, bool quantized) const {
  const Networks& n = *networks_;
  const auto element = static_cast<int64_t>(c10::elementSize(n.dtype));
  int64_t inner = 0;  // gate and up side by side
  for (const Layer& layer : n.layers) inner = std::max(inner, layer.gate_up->out());
  // Rows, norm, q, k, v as a product and as attention reads them, its output; or rows, norm, gate
  // and up, what is made of them, and the product. A method may have int32 sums beside that, and
  // one layer's weights decoded. Scores in float32, where no kernel fuses attention.
  const int64_t row = 8 * n.sizes.width * element + inner * (3 * element + (quantized ? 4 : 0));
  const int64_t scores = 2 * n.sizes.heads.q * tokens * 4;
  const int64_t weight = quantized ? n.sizes.width * inner * element : 0;
  return static_cast<uint64_t>(tokens * (row + scores) + weight) + runtime::kLibrariesNbytes;
}

}  // namespace loadstone::networks::qwen_image
