// What checkpoints can declare and who reads it: one table for inspect, errors and the README.
#pragma once

#include <string>
#include <vector>

#include "plugin/registry.hpp"

namespace loadstone::plugin {

/// One line. Empty texts match anything; a format that no plugin serves has a refusal instead of a
/// method and a plugin.
struct DeclaredFormat {
  std::string quant_method, format, algorithm;
  std::vector<std::string> origins;  // "quantization_config", "gguf", "marker:SUFFIX", …
  std::string method, plugin;
  std::string refusal;

  /// "auto-round, mx_fp8", "torchao"; "" for a claim on whatever stands at its origin.
  std::string name() const;
};

/// Claims of all plugins, then the known formats that none serves, each by name.
/// Errors: a library that can't be opened.
Result<std::vector<DeclaredFormat>> format_table(Registry& registry);

}  // namespace loadstone::plugin
