// The commands. Each returns the exit code, or the error that main prints.
#pragma once

#include "base/result.hpp"
#include "options.hpp"

namespace loadstone::cli {

Result<int> run(const InspectOptions& options);
Result<int> run(const PlanOptions& options);
Result<int> run(const LoadOptions& options);
Result<int> run(const DequantizeOptions& options);
Result<int> run(const QuantizeOptions& options);
Result<int> run(const PluginsListOptions& options);
Result<int> run(const PluginsCheckOptions& options);
Result<int> run(const ConfigCheckOptions& options);
Result<int> run(const GenerateOptions& options);
Result<int> run(const BenchOptions& options);
Result<int> run(const CompareOptions& options);

/// Prints to stdout. Errors: io when nobody reads it.
Status print(const std::string& text);

}  // namespace loadstone::cli
