// Writes one GGUF file (version 3, little-endian) as a stream: the head first, then every tensor's
// bytes in the order announced. Layout: gguf.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "formats/output_file.hpp"
#include "formats/safetensors_writer.hpp"

namespace loadstone::formats {

class GgufWriter {
 public:
  using Value = std::variant<std::string, uint32_t>;
  using Metadata = std::vector<std::pair<std::string, Value>>;

  /// Tensors of ggml's block types, or of the plain types that ggml has too.
  /// Errors: invalid_argument for a path that can't be written, a repeated name or one of 64 bytes
  /// and more, a dtype or a rank (1 to 4) that the format can't hold; io.
  static Result<GgufWriter> create(const std::string& path, std::span<const TensorSpec> tensors,
                                   const Metadata& metadata);

  /// The next bytes, cut anywhere. Errors: internal past the announced end; io.
  Status append(std::span<const std::byte> bytes);
  /// Makes the file appear under its name. Errors: internal when bytes are missing; io.
  Status finish();

 private:
  GgufWriter(OutputFile file, std::vector<uint64_t> sizes)
      : file_(std::move(file)), sizes_(std::move(sizes)) {}
  /// Pads behind tensors that are complete.
  Status close_tensors();

  OutputFile file_;
  std::vector<uint64_t> sizes_;  // bytes of each tensor
  size_t tensor_ = 0;            // the one that is written
  uint64_t done_ = 0;            // bytes of it
};

/// ggml's type id of a dtype, or nullopt: it has none.
std::optional<uint32_t> ggml_type_of(DType dtype);

}  // namespace loadstone::formats
