// The index of a sharded component ("….safetensors.index.json"): which file holds which tensor.
// The index is the law: shard names are read from it, never derived.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/checkpoint.hpp"

namespace loadstone::formats {

inline constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
inline constexpr uint64_t kMaxIndexNbytes = 64u << 20;

struct ShardIndex {
  std::string path;
  std::vector<std::string> shards;                        // file names, in order of first mention
  std::vector<std::pair<std::string, uint32_t>> tensors;  // name, index into shards
  std::optional<uint64_t> total_nbytes;  // metadata.total_size: never trusted, only compared
  std::vector<std::string> notes;        // a total_size that is no size
};

/// Checks an index's JSON tree (security checklist S12, S15).
Result<ShardIndex> parse_shard_index(const Node& json, const std::string& path);

/// Holds the index against what the shards really have (S14): `tensors` with their `file` as index
/// into index.shards. Kinds of disagreement are counted and up to ten names of each listed; a
/// tensor that the index does not name is an error unless `lenient`.
Status check_against_shards(const ShardIndex& index, const std::vector<TensorEntry>& tensors,
                            const OpenOptions& options, std::vector<std::string>& notes);

/// True for a plain file name: no separator, no "." or "..", no control character, not empty.
bool is_plain_file_name(std::string_view name);

}  // namespace loadstone::formats
