// Errors of quantized layers against a reference model. Torch-free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "load/loaded_model.hpp"
#include "runtime/compare/result.hpp"

namespace loadstone::compare {

/// Relative L2 over any number of pieces, summed in float64: ‖candidate − reference‖ / ‖reference‖.
class SquaredError {
 public:
  void add(std::span<const float> reference, std::span<const float> candidate);
  /// 0 if both norms are 0, inf if only the reference's is.
  double relative() const;
  uint64_t count() const { return count_; }

 private:
  double error_ = 0, reference_ = 0;
  uint64_t count_ = 0;
};

/// One entry for every layer that `candidate` quantizes, in its order, with the error of the
/// dequantized weight against the same layer of `reference`. Errors: what methods report; a
/// reference of another shape has no weight error.
Result<std::vector<LayerError>> weight_errors(const load::LoadedModel& candidate,
                                              const load::LoadedModel& reference);

}  // namespace loadstone::compare
