// How weights or activations of one scheme are quantized, in the tool's words.
#pragma once

#include "compressed_tensors/scheme.hpp"

namespace loadstone::compressed_tensors {

enum class Dynamic { no, yes, local };

struct Arguments {
  std::string text;  // as it stands there, without keys that say nothing: for errors
  uint32_t bits = 8;
  bool is_float = false;
  bool symmetric = true;
  bool ordered = false;
  bool is_e8m0 = false;  // scales are powers of two, one byte each
  Strategy strategy = Strategy::tensor;
  Dynamic dynamic = Dynamic::no;
  uint64_t group_size = 0;  // 0: none
  uint64_t block_rows = 0, block_columns = 0;
};

/// Errors (thrown): LS_INVALID_CONFIG naming the key; LS_UNSUPPORTED for strategies of no matrix.
Arguments read_arguments(const std::string& key, const Json& arguments);

/// LS_INVALID_CONFIG: a value of a wrong kind.
[[noreturn]] void malformed(const std::string& key, const Json& found, const std::string& expected);

}  // namespace loadstone::compressed_tensors
