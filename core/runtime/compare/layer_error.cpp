#include "runtime/compare/layer_error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "runtime/compare/dense_weight.hpp"

namespace loadstone::compare {
namespace {

constexpr uint64_t kPieceElems = 4u << 20;  // float32 held at a time, for each side

const std::string& component_of(const plan::Plan& plan, const plan::LayerPlan& layer) {
  return plan.graph.components[plan.layer_of(layer).component].name;
}

bool is_quantized(const plan::LayerPlan& layer) {
  return !layer.method.empty() && layer.decision == plan::Decision::quantize;
}

std::map<std::pair<std::string, std::string>, uint32_t> layers_by_name(const plan::Plan& plan) {
  std::map<std::pair<std::string, std::string>, uint32_t> out;
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    out[{component_of(plan, plan.layers[i]), plan.layer_of(plan.layers[i]).path}] = i;
  }
  return out;
}

Result<std::optional<double>> difference(const load::LoadedModel& candidate, uint32_t layer,
                                         const load::LoadedModel& reference, uint32_t other,
                                         ThreadPool& pool) {
  const std::optional<double> unknown;
  LS_TRY(const auto mine, DenseWeight::of(candidate, layer));
  LS_TRY(const auto theirs, DenseWeight::of(reference, other));
  if (!mine || !theirs || mine->out() != theirs->out() || mine->in() != theirs->in() ||
      mine->groups() != theirs->groups()) {
    return unknown;
  }
  SquaredError error;
  const uint64_t step = std::max<uint64_t>(1, kPieceElems / mine->in());
  for (uint32_t group = 0; group < mine->groups(); ++group) {
    for (uint64_t row = 0; row < mine->out(); row += step) {
      const uint64_t count = std::min(step, mine->out() - row);
      LS_TRY(const auto found, mine->rows(group, row, count, pool));
      LS_TRY(const auto expected, theirs->rows(group, row, count, pool));
      error.add(expected, found);
    }
  }
  return std::optional(error.relative());
}

}  // namespace

void SquaredError::add(std::span<const float> reference, std::span<const float> candidate) {
  const size_t count = std::min(reference.size(), candidate.size());
  for (size_t i = 0; i < count; ++i) {
    const double r = reference[i], d = double{candidate[i]} - r;
    error_ += d * d;
    reference_ += r * r;
  }
  count_ += count;
}

double SquaredError::relative() const {
  if (reference_ > 0) return std::sqrt(error_) / std::sqrt(reference_);
  return error_ > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

Result<std::vector<LayerError>> weight_errors(const load::LoadedModel& candidate,
                                              const load::LoadedModel& reference) {
  const plan::Plan& plan = candidate.plan();
  const auto others = layers_by_name(reference.plan());
  ThreadPool pool(usable_threads());
  std::vector<LayerError> out;
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    const plan::LayerPlan& layer = plan.layers[i];
    if (!is_quantized(layer)) continue;
    out.push_back({component_of(plan, layer), plan.layer_of(layer).path, layer.method, {}, {}});
    const auto other = others.find({out.back().component, out.back().layer});
    if (other == others.end()) continue;
    LS_TRY(out.back().weight, difference(candidate, i, reference, other->second, pool));
  }
  return out;
}

}  // namespace loadstone::compare
