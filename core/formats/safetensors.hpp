// Reader of safetensors headers.
//
// File: 8 bytes little-endian header length N, N bytes JSON, then the tensors' bytes.
//   {"__metadata__": {text: text}, NAME: {"dtype": T, "shape": [..], "data_offsets": [begin, end]}}
// Offsets count from the end of the header. Ranges, sorted, tile the rest of the file exactly: no
// hole, no overlap, nothing behind. Source: the format's README and reference implementation; what
// is refused beyond them: security checklist S01-S11.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/checkpoint.hpp"

namespace loadstone::formats {

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // sorted by offset, offsets from the file's first byte; file 0
  std::vector<std::pair<std::string, std::string>> metadata;  // in file order
  std::vector<std::string> notes;                             // what `lenient` let pass
};

/// Bytes that must be readable behind the JSON text given to parse_safetensors_header.
inline constexpr size_t kHeaderPadding = 64;
inline constexpr size_t kMaxNameNbytes = 4096;
inline constexpr size_t kMaxRank = 64;

/// Reads and checks the header of an open file of known size. One read of 8 bytes and one of the
/// header; sizes are checked against the file and the limit before anything is allocated.
Result<SafetensorsHeader> read_safetensors_header(const File& file, uint64_t file_nbytes,
                                                  const OpenOptions& options = {});

/// The parser alone. `padded`: the JSON text of header_nbytes and kHeaderPadding bytes more.
/// `path` is for errors.
Result<SafetensorsHeader> parse_safetensors_header(std::span<const char> padded,
                                                   size_t header_nbytes, uint64_t file_nbytes,
                                                   const std::string& path,
                                                   const OpenOptions& options = {});

}  // namespace loadstone::formats
