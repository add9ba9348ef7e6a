// The weight of one layer of a loaded model, quantized or not, as float32. Torch-free.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "load/loaded_model.hpp"
#include "load/rows.hpp"

namespace loadstone::compare {

class DenseWeight {
 public:
  /// Nothing for layers without a matrix, for kept weights that aren't one plain tensor, and for
  /// methods that don't dequantize. `model` must outlive it. Errors: what the method reports.
  static Result<std::optional<DenseWeight>> of(const load::LoadedModel& model, uint32_t layer);

  uint64_t out() const { return out_; }
  uint64_t in() const { return in_; }
  uint32_t groups() const { return groups_; }
  /// [count, in] of a group, from row `begin`: what the layer multiplies with, an input scale
  /// folded in.
  Result<std::vector<float>> rows(uint32_t group, uint64_t begin, uint64_t count,
                                  ThreadPool& pool) const;

 private:
  DenseWeight(const load::LoadedModel& model, uint32_t layer);
  Result<std::vector<const std::byte*>> canonical();
  /// The stored tensor, brought back if it lies on a GPU.
  Result<const std::byte*> on_host(uint32_t stored);
  Result<std::vector<float>> kept_rows(uint32_t group, uint64_t begin, uint64_t count) const;

  const load::LoadedModel* model_;
  const plan::LayerPlan* plan_;
  uint32_t layer_;
  uint64_t out_ = 0, in_ = 0;
  uint32_t groups_ = 1;
  uint32_t kept_ = 0;                             // index of the plain weight of a kept layer
  std::unique_ptr<load::WeightRows> rows_;        // of a quantized layer
  std::vector<std::vector<std::byte>> unpacked_;  // canonical bytes of packed tensors, by index
  std::vector<std::vector<std::byte>> fetched_;   // from a GPU; parallel to stored
  const std::byte* kept_at_ = nullptr;
};

}  // namespace loadstone::compare
