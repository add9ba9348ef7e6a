// Reader of GGUF containers, versions 2 and 3, little-endian.
//
//   "GGUF" · u32 version · u64 tensors · u64 keys
//   keys:    string name · u32 type · value      (string: u64 bytes, then the bytes;
//                                                 array: u32 type · u64 count · values)
//   tensors: string name · u32 rank · u64 dims[rank], innermost first · u32 type · u64 offset
//   padding to general.alignment (default 32), then the tensors' data, each padded to it.
// Offsets count from the data's begin and are the running sum. Source: ggml gguf.h; what is refused
// beyond it: security checklist S19-S26.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/checkpoint.hpp"

namespace loadstone::formats {

struct GgufSplit {
  uint64_t number = 0;  // from 0
  uint64_t count = 1;
  uint64_t tensors = 0;  // of the whole set; 0 when not split
};

struct GgufFile {
  std::vector<TensorEntry> tensors;  // dims outermost first, offsets from the file's first byte
  Node metadata;  // map; an array of over 1,024 values is {"array": type, "count": n} instead
  GgufSplit split;
  std::vector<std::pair<uint32_t, std::vector<uint64_t>>>
      reshaped;  // comfy.gguf.orig_shape.<tensor>
  std::vector<std::string> notes;
};

/// Reads and checks the head of an open file. Counts, lengths and sizes are held against the file's
/// size and options.max_header_nbytes before anything is allocated for them.
Result<GgufFile> read_gguf(const File& file, uint64_t file_nbytes, const OpenOptions& options = {});

/// File names of all parts of the set that `name` belongs to ("x-00002-of-00003.gguf"), or nullopt
/// when it is no numbered name or its total isn't `count`.
std::optional<std::vector<std::string>> gguf_part_names(const std::string& name, uint64_t count);

/// M of a name "x-N-of-M.gguf", 1 for other names.
uint64_t gguf_count_of_name(const std::string& name);

}  // namespace loadstone::formats
