// Comparing what two models draw. Needs the runtime library (LibTorch); this header does not.
#pragma once

#include <functional>
#include <loadstone/runtime.hpp>
#include <memory>

#include "base/parallel.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "load/loaded_model.hpp"
#include "runtime/compare/run.hpp"

namespace loadstone::compare {

/// Loads one side. Called once a side, and once more for the reference when errors per layer are
/// asked for.
using OpenModel =
    std::function<Result<std::shared_ptr<const load::LoadedModel>>(const VariantConfig&)>;

struct ModelControl {
  runtime::OpenOptions open;
  const CancelToken* cancel = nullptr;
  ProgressSink progress;
};

/// Draws with the reference, closes it, draws with the candidate, and measures the difference.
/// Errors: as run_comparison; what loading and drawing report.
Result<Outcome> compare_models(const Request& request, const OpenModel& open,
                               const ModelControl& control = {});

}  // namespace loadstone::compare
