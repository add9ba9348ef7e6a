// A plan made and followed, with progress, notes and cancel.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "load/loaded_model.hpp"
#include "progress_line.hpp"
#include "session.hpp"

namespace loadstone::cli {

/// Plans and loads the engine's model; the plan's notes go to stderr.
Result<std::shared_ptr<const load::LoadedModel>> load_model(Engine& engine, ProgressLine& progress,
                                                            bool measure_ceiling = false);

}  // namespace loadstone::cli
