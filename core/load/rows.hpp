// Rows of a layer's weight as float32, through its method.
#pragma once

#include <span>
#include <vector>

#include "base/parallel.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// A layer with its stored tensors in memory. Plan and bytes must outlive it. Threads: const.
class WeightRows {
 public:
  /// `stored`: parallel to the layer plan's; canonical forms, also of those that the plan packs.
  /// Errors: unsupported (the method has no dequantize), internal.
  static Result<WeightRows> open(const plan::Plan& plan, const plan::LayerPlan& layer,
                                 std::vector<const std::byte*> stored);

  /// Rows [begin, begin + count) of a group into `out` (count × in floats). `fold`: multiplied by
  /// the input scale, else the stored basis. Several threads of `pool` share the rows. True if the
  /// layer has an input scale (of the stored basis).
  Result<bool> read(uint32_t group, uint64_t begin, uint64_t count, bool fold, std::span<float> out,
                    ThreadPool& pool) const;

  uint64_t columns() const { return columns_; }

 private:
  WeightRows(const plan::Plan& plan, const plan::LayerPlan& layer);

  const plan::Plan* plan_;
  const plan::LayerPlan* layer_;
  plan::LayerView view_;
  std::vector<ls_buffer> buffers_;
  std::vector<const ls_buffer*> pointers_;
  const std::byte* decoded_ = nullptr;  // decode: plain float32 rows
  uint64_t columns_ = 0;
};

}  // namespace loadstone::load
