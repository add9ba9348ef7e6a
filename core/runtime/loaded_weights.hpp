// Weights over a component of a loaded model.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "load/loaded_model.hpp"
#include "runtime/weights.hpp"

namespace loadstone::runtime {

/// Where a layer plan's stored tensors lie.
at::Device device_of(const load::LoadedModel& model, uint32_t layer);

class LoadedWeights final : public Weights {
 public:
  /// Errors: not_found when the model has no such component.
  static Result<std::unique_ptr<LoadedWeights>> open(std::shared_ptr<const load::LoadedModel> model,
                                                     const std::string& component,
                                                     at::ScalarType dtype,
                                                     std::shared_ptr<RunState> state);

  const Node& config() const override;
  at::ScalarType dtype() const override { return dtype_; }
  at::Device device() const override;
  const std::shared_ptr<RunState>& state() const override { return state_; }
  bool has_layer(const std::string& path) const override { return layers_.contains(path); }
  bool has_tensor(const std::string& name) const override { return tensors_.contains(name); }
  Result<std::unique_ptr<Linear>> linear(const std::string& path) override;
  Result<std::unique_ptr<Embedding>> embedding(const std::string& path) override;
  Result<at::Tensor> tensor(const std::string& name) override;
  Result<bool> fp8_attention(const std::string& path, int64_t head_dim) const override;

  std::vector<std::string> layer_paths() const;

 private:
  /// A tensor as the checkpoint names it: its layer plan and its name below the part.
  struct Place {
    uint32_t layer = 0;
    std::string suffix;
  };

  LoadedWeights(std::shared_ptr<const load::LoadedModel> model, uint32_t component,
                at::ScalarType dtype, std::shared_ptr<RunState> state);
  void index_layers();
  const plan::LayerPlan& plan_of(uint32_t layer) const { return model_->plan().layers[layer]; }
  const std::string& component_name() const;
  Error missing(const std::string& name, const char* what) const;
  bool runs_by_method(uint32_t layer) const;
  /// A stored plain tensor: memory of the model, or a copy where another dtype is wanted.
  Result<at::Tensor> stored(uint32_t layer, uint32_t index,
                            std::optional<at::ScalarType> dtype) const;
  /// The stored tensor of that name in dtype(), or undefined.
  Result<at::Tensor> stored_if(uint32_t layer, const std::string& name) const;
  Result<at::Tensor> bias_of(uint32_t layer) const;
  Result<std::unique_ptr<Linear>> plain_layer(uint32_t layer) const;

  std::shared_ptr<const load::LoadedModel> model_;
  uint32_t component_;  // index into the graph's components
  at::ScalarType dtype_;
  std::shared_ptr<RunState> state_;
  std::unordered_map<std::string, uint32_t> layers_;  // by runtime path
  std::unordered_map<std::string, Place> tensors_;    // by checkpoint name
};

}  // namespace loadstone::runtime
