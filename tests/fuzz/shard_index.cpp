// Input: the text of a weights index.
#include "formats/shard_index.hpp"

#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  using namespace loadstone;
  const std::string_view text(reinterpret_cast<const char*>(bytes), nbytes);
  const auto json = parse_json(text, "index.json");
  if (!json.ok()) return 0;
  const auto index = formats::parse_shard_index(*json, "index.json");
  if (!index.ok()) return 0;
  std::vector<formats::TensorEntry> tensors;
  for (const auto& [name, shard] : index->tensors) {
    if (!formats::is_plain_file_name(index->shards.at(shard))) std::abort();
    tensors.emplace_back().name = name;
    tensors.back().file = shard;
  }
  std::vector<std::string> notes;
  if (!formats::check_against_shards(*index, tensors, {}, notes).ok()) std::abort();
  return 0;
}
