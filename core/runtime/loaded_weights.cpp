#include "runtime/loaded_weights.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include "base/text.hpp"
#include "runtime/attention.hpp"
#include "runtime/quantized.hpp"

namespace loadstone::runtime {
namespace {

std::optional<at::ScalarType> scalar_type(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return at::kFloat;
    case DType::F64:
      return at::kDouble;
    case DType::BF16:
      return at::kBFloat16;
    case DType::F16:
      return at::kHalf;
    default:
      return std::nullopt;
  }
}

/// Shows a layer's input and output to the observer, when one is set.
class Observed final : public Linear {
 public:
  Observed(std::unique_ptr<Linear> inner, std::string component, std::string path,
           std::shared_ptr<RunState> state)
      : Linear(inner->in(), inner->out()),
        inner_(std::move(inner)),
        component_(std::move(component)),
        path_(std::move(path)),
        state_(std::move(state)) {}

  void into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const override {
    inner_->into(x, y, shared);
    if (state_->observer) state_->observer(component_, path_, x, y);
  }
  at::Tensor into_without_bias(const at::Tensor& x, at::Tensor& y,
                               SharedActivation& shared) const override {
    if (!state_->observer) return inner_->into_without_bias(x, y, shared);
    return Linear::into_without_bias(x, y, shared);
  }
  void gelu_into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const override {
    if (!state_->observer) return inner_->gelu_into(x, y, shared);
    Linear::gelu_into(x, y, shared);
  }
  bool runs_by_method() const override { return inner_->runs_by_method(); }
  bool rows_are_independent() const override { return inner_->rows_are_independent(); }

 private:
  std::unique_ptr<Linear> inner_;
  std::string component_, path_;
  std::shared_ptr<RunState> state_;
};

}  // namespace

Result<std::unique_ptr<LoadedWeights>> LoadedWeights::open(
    std::shared_ptr<const load::LoadedModel> model, const std::string& component,
    at::ScalarType dtype, std::shared_ptr<RunState> state) {
  const auto& components = model->plan().graph.components;
  std::vector<std::string> names;
  for (uint32_t i = 0; i < components.size(); ++i) {
    if (components[i].name == component) {
      auto weights = std::unique_ptr<LoadedWeights>(
          new LoadedWeights(std::move(model), i, dtype, std::move(state)));
      weights->index_layers();
      return weights;
    }
    names.push_back(components[i].name);
  }
  return Error{Code::not_found,
               "model has no such component",
               escaped(model->plan().checkpoint->path),
               "found " + join(names, " and ") + ", expected " + loadstone::quoted(component),
               "",
               {}};
}

LoadedWeights::LoadedWeights(std::shared_ptr<const load::LoadedModel> model, uint32_t component,
                             at::ScalarType dtype, std::shared_ptr<RunState> state)
    : model_(std::move(model)), component_(component), dtype_(dtype), state_(std::move(state)) {}

void LoadedWeights::index_layers() {
  const plan::Plan& plan = model_->plan();
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    const graph::Layer& layer = plan.layer_of(plan.layers[i]);
    if (layer.component != component_ || plan.layers[i].decision == plan::Decision::split) continue;
    layers_.emplace(layer.path, i);
    for (const graph::LayerTensor& tensor : layer.tensors) {
      const std::string& part = layer.parts[tensor.part].name;
      tensors_.emplace(tensor.suffix.empty() ? part : part + "." + tensor.suffix,
                       Place{i, tensor.suffix});
    }
  }
}

const Node& LoadedWeights::config() const {
  const plan::Plan& plan = model_->plan();
  return plan.checkpoint->components[plan.graph.components[component_].checkpoint_component].config;
}

at::Device device_of(const load::LoadedModel& model, uint32_t layer) {
  const int32_t gpu = model.gpu_of(layer);
  return gpu < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<at::DeviceIndex>(gpu));
}

at::Device LoadedWeights::device() const {
  const int32_t gpu = model_->plan().slabs[component_].target.index;
  return gpu < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<at::DeviceIndex>(gpu));
}

const std::string& LoadedWeights::component_name() const {
  return model_->plan().graph.components[component_].name;
}

Result<bool> LoadedWeights::fp8_attention(const std::string& path, int64_t head_dim) const {
  const auto& asked = model_->plan().attention;
  if (!asked) return false;
  const plan::AttentionSite* site = asked->site(component_, path);
  if (site == nullptr) return missing(path, "attention");
  if (!site->quantized || takes_fp8(head_dim)) return site->quantized;
  return Error{
      Code::unsupported,
      "attention quantization refused",
      asked->rule + " (" + component_name() + ": " + path + ")",
      "found heads of " + std::to_string(head_dim) + ", expected a power of two from 16 to 128",
      "",
      {}};
}

std::vector<std::string> LoadedWeights::layer_paths() const {
  std::vector<std::string> out;
  for (const auto& [path, index] : layers_) out.push_back(path);
  return out;
}

Error LoadedWeights::missing(const std::string& name, const char* what) const {
  return Error{Code::invalid_checkpoint,
               "network lacks a tensor",
               component_name(),
               "found no " + loadstone::quoted(name) + ", expected " + what,
               "",
               {}};
}

bool LoadedWeights::runs_by_method(uint32_t layer) const {
  return plan_of(layer).decision == plan::Decision::quantize;
}

Result<at::Tensor> LoadedWeights::stored(uint32_t layer, uint32_t index,
                                         std::optional<at::ScalarType> dtype) const {
  const plan::Stored& stored = plan_of(layer).stored[index];
  const auto type = scalar_type(stored.dtype);
  if (!type) {
    return Error{Code::invalid_checkpoint,
                 "tensor is not a float",
                 component_name() + ": " + model_->plan().layer_of(plan_of(layer)).path,
                 "found " + loadstone::quoted(stored.name) + " as " +
                     std::string(name_of(stored.dtype)) + ", expected F32, BF16, F16 or F64",
                 "",
                 {}};
  }
  const std::vector<int64_t> shape(stored.shape.begin(), stored.shape.end());
  const at::Tensor view = at::from_blob(
      model_->stored(layer, index), shape, [keep = model_](void*) {},
      at::TensorOptions().dtype(*type).device(device_of(*model_, layer)));
  return dtype ? view.to(*dtype) : view;
}

Result<at::Tensor> LoadedWeights::stored_if(uint32_t layer, const std::string& name) const {
  const int64_t index = plan_of(layer).find_stored(name);
  if (index < 0) return at::Tensor();
  return stored(layer, static_cast<uint32_t>(index), dtype_);
}

Result<at::Tensor> LoadedWeights::bias_of(uint32_t layer) const {
  const plan::LayerPlan& plan = plan_of(layer);
  if (plan.bias == LS_BIAS_BY_METHOD && runs_by_method(layer)) return at::Tensor();
  LS_TRY(at::Tensor whole, stored_if(layer, "bias"));
  if (whole.defined()) return whole;
  // Parts that couldn't be joined: each its own, zeros where a part has none.
  const graph::Layer& graph_layer = model_->plan().layer_of(plan);
  if (!graph_layer.has_bias || graph_layer.parts.size() == 1) return at::Tensor();
  std::vector<at::Tensor> pieces;
  for (const graph::Part& part : graph_layer.parts) {
    LS_TRY(at::Tensor piece,
           stored_if(layer, (part.shard.empty() ? part.name : part.shard) + ".bias"));
    pieces.push_back(piece.defined()
                         ? piece
                         : at::zeros({static_cast<int64_t>(part.out_count)},
                                     at::TensorOptions().dtype(dtype_).device(device())));
  }
  return at::cat(pieces, 0);
}

Result<std::unique_ptr<Linear>> LoadedWeights::plain_layer(uint32_t layer) const {
  const graph::Layer& graph_layer = model_->plan().layer_of(plan_of(layer));
  LS_TRY(at::Tensor weight, stored_if(layer, "weight"));
  if (!weight.defined()) {
    std::vector<at::Tensor> pieces;
    for (const graph::Part& part : graph_layer.parts) {
      const std::string name = (part.shard.empty() ? part.name : part.shard) + ".weight";
      LS_TRY(at::Tensor piece, stored_if(layer, name));
      if (!piece.defined()) return missing(graph_layer.path + ": " + name, "a weight");
      pieces.push_back(piece);
    }
    weight = at::cat(pieces, 0);
  }
  if (weight.dim() != 2) return missing(graph_layer.path, "a weight of two axes");
  LS_TRY(at::Tensor bias, bias_of(layer));
  return plain_linear(weight, std::move(bias));
}

Result<std::unique_ptr<Linear>> LoadedWeights::linear(const std::string& path) {
  auto found = layers_.find(path);
  if (found == layers_.end()) return missing(path, "a linear layer");
  std::unique_ptr<Linear> layer;
  if (runs_by_method(found->second)) {
    LS_TRY(at::Tensor bias, bias_of(found->second));
    LS_TRY(layer, quantized_linear({model_, found->second}, std::move(bias), state_));
  } else {
    LS_TRY(layer, plain_layer(found->second));
  }
  return std::unique_ptr<Linear>(
      std::make_unique<Observed>(std::move(layer), component_name(), path, state_));
}

Result<std::unique_ptr<Embedding>> LoadedWeights::embedding(const std::string& path) {
  auto found = layers_.find(path);
  if (found == layers_.end()) return missing(path, "an embedding");
  if (runs_by_method(found->second)) {
    return quantized_embedding({model_, found->second}, dtype_, state_);
  }
  const int64_t index = plan_of(found->second).find_stored("weight");
  if (index < 0) return missing(path + ".weight", "a table");
  // Only the rows that are looked up are widened.
  LS_TRY(at::Tensor table, stored(found->second, static_cast<uint32_t>(index), std::nullopt));
  return plain_embedding(std::move(table), dtype_);
}

Result<at::Tensor> LoadedWeights::tensor(const std::string& name) {
  auto found = tensors_.find(name);
  if (found == tensors_.end()) return missing(name, "a tensor");
  const auto& [layer, suffix] = found->second;
  LS_TRY(at::Tensor value, stored_if(layer, suffix.empty() ? "weight" : suffix));
  if (!value.defined())
    return missing(name, "a tensor that is not part of a fused or quantized one");
  return value;
}

}  // namespace loadstone::runtime
