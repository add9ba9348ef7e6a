// `run:` of a configuration: how networks are run. Flags take the same values by the same readers.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.hpp"
#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::config {

struct RunSection {
  DType compute = DType::F32;  // of activations: F32, BF16 or F16
  bool graphs = true;          // on a GPU: record kernels that are launched again and again
  uint32_t decode_rows = 0;    // rows of a picture that are decoded at a time; 0: "auto"

  bool operator==(const RunSection&) const = default;
  /// "compute bf16, graphs off, 256 rows decoded at a time": what isn't the default; "" if all is.
  std::string text() const;
  Node to_node() const;
};

/// "f32", "bf16", "f16" and their other spellings. Errors: invalid_config.
Result<DType> parse_compute(const std::string& name);
/// "auto" or a count from 1 to 16384. Errors: invalid_config.
Result<uint32_t> parse_decode_rows(const std::string& text);

}  // namespace loadstone::config
