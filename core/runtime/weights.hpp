// What networks are built over: the modules and tensors of one component by their names in the
// checkpoint.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"
#include "base/tree.hpp"
#include "runtime/linear.hpp"
#include "runtime/run_state.hpp"

namespace loadstone::runtime {

class Weights {
 public:
  virtual ~Weights() = default;

  /// The component's config.json.
  virtual const Node& config() const = 0;
  /// Dtype of activations and of the tensors that are handed out.
  virtual at::ScalarType dtype() const = 0;
  /// Where the tensors lie and the network computes.
  virtual at::Device device() const { return at::kCPU; }
  /// Shared by all layers of the pipeline.
  virtual const std::shared_ptr<RunState>& state() const = 0;
  /// Whether a layer has this path, fused ones included.
  virtual bool has_layer(const std::string& path) const = 0;
  virtual bool has_tensor(const std::string& name) const = 0;

  /// Errors: invalid_checkpoint when it is missing; what the method's bind says.
  virtual Result<std::unique_ptr<Linear>> linear(const std::string& path) = 0;
  virtual Result<std::unique_ptr<Embedding>> embedding(const std::string& path) = 0;
  /// A whole tensor in dtype(). Errors: invalid_checkpoint when it is missing or quantized.
  virtual Result<at::Tensor> tensor(const std::string& name) = 0;

  /// Whether the plan wants the attention at this path, with heads of that size, quantized at steps
  /// that it doesn't skip. Errors: unsupported where the head can't be.
  virtual Result<bool> fp8_attention(const std::string& path, int64_t head_dim) const;

  /// The fused layer where the graph has it, else its parts side by side.
  Result<std::unique_ptr<Linear>> fused(const std::string& path,
                                        std::span<const std::string> parts);
};

/// An integer of a config, at least 1. Errors: invalid_checkpoint.
Result<int64_t> config_count(const Node& config, const char* key);
/// A number, or `fallback` where the key is absent or null.
Result<double> config_number(const Node& config, const char* key, double fallback);
/// A list of integers, each at least 1.
Result<std::vector<int64_t>> config_counts(const Node& config, const char* key);
/// Errors: unsupported when `key` is set to true.
Status config_must_be_off(const Node& config, const char* key);

}  // namespace loadstone::runtime
