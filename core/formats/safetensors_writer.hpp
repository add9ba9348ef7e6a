// Writes one safetensors file as a stream: the header first, then every tensor's bytes in the
// order announced. The header begins at '{' and is padded with blanks to a multiple of 8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.hpp"
#include "formats/checkpoint.hpp"
#include "formats/output_file.hpp"

namespace loadstone::formats {

struct TensorSpec {
  std::string name;
  DType dtype = DType::invalid;  // a safetensors type
  Shape shape;
};

class SafetensorsWriter {
 public:
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  /// Errors: invalid_argument for a path that can't be written, a repeated or reserved name, a
  /// dtype or a shape that the format can't hold; io.
  static Result<SafetensorsWriter> create(const std::string& path,
                                          std::span<const TensorSpec> tensors,
                                          const Metadata& metadata = {});

  /// The next bytes, cut anywhere. Errors: internal past the announced end; io.
  Status append(std::span<const std::byte> bytes);
  /// Makes the file appear under its name. Errors: internal when bytes are missing; io.
  Status finish();

 private:
  SafetensorsWriter(OutputFile file, uint64_t left) : file_(std::move(file)), left_(left) {}
  OutputFile file_;
  uint64_t left_;  // bytes announced and not yet appended
};

}  // namespace loadstone::formats
