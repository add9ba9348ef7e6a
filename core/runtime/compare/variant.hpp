// What one side of a comparison is: its model and its quantization, as the flags say it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::compare {

/// The three flags of one side, each absent or as typed.
struct QuantizationFlags {
  std::string side;  // "reference" or "candidate", for error texts
  std::optional<std::string> method;
  std::optional<std::string> config_json;     // JSON text or an existing file; must be an object
  std::optional<std::string> ignored_layers;  // comma-separated
};

/// At most one is set: a bare method name, or a configuration object.
struct VariantQuantization {
  std::optional<std::string> method;
  std::optional<Node> config;

  /// The value for build_quant_config; null when nothing was asked for.
  Node spec() const;
};

/// Combinations that would drop a flag are errors: a method beside a JSON object, ignored layers
/// without a method. Errors: invalid_argument, invalid_config (JSON), io.
Result<VariantQuantization> variant_quantization(FileSystem& files, const QuantizationFlags& flags);

/// "a , ,b" → {"a", "b"}.
std::vector<std::string> split_names(const std::string& text);

}  // namespace loadstone::compare
