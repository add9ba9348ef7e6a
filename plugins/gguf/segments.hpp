// Where the rows of a GGUF layer lie: parts of one layer may have different block types.
#pragma once

#include <cstdint>
#include <loadstone/plugin.hpp>
#include <string>
#include <vector>

#include "common/ggml/types.hpp"

namespace loadstone::gguf {

/// Rows [begin, begin+count) of the layer (rows of group g come after those of group g-1) are rows
/// of the part's weight from `file_row` on.
struct Segment {
  sdk::Tensor weight;
  const ggml::TypeInfo* type = nullptr;  // of the stored form
  uint64_t begin = 0, count = 0;
  uint64_t file_row = 0;
};

/// A layer's matrix: its segments in the order of its parts, one width.
struct Matrix {
  uint64_t in = 0;
  std::vector<Segment> segments;

  /// All segments have one type: they share one stored tensor.
  bool uniform() const;
  /// No segment is quantized in the file.
  bool plain() const;
  /// "Q4_K", or "Q4_K and Q6_K".
  std::string type_names() const;
};

/// The type of a tensor: ggml's, or F32, F16 and BF16 stored as plain ones. Null for any other.
const ggml::TypeInfo* type_of(const sdk::Tensor& tensor);

/// The interface's number of a type.
uint32_t dtype_of(const ggml::TypeInfo& type);

/// Bytes of one row of `in` values.
constexpr uint64_t row_nbytes(const ggml::TypeInfo& type, uint64_t in) {
  return in / type.elems * type.nbytes;
}

/// The weights of a linear, grouped or gather layer. Failures: a part without weight, a type
/// without a decoder, widths that differ or are no whole blocks, rows that the tensor doesn't have.
Matrix matrix_of(const sdk::Layer& layer);

/// Refuses a type that can't be decoded, by name.
const ggml::TypeInfo& decodable(const sdk::Tensor& tensor);

}  // namespace loadstone::gguf
