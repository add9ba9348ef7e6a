// Comparing models that draw: needs the runtime. In a build without it, an error that says so.
#pragma once

#include "base/result.hpp"
#include "options.hpp"
#include "runtime/compare/run.hpp"

namespace loadstone::cli {

Result<compare::Outcome> compare_models(const CompareOptions& options,
                                        const compare::Request& request);

}  // namespace loadstone::cli
