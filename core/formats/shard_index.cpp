#include "formats/shard_index.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <unordered_map>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

Error rejected(const std::string& path, const Node& node, std::string detail) {
  std::string where = node.mark().text();
  if (where.empty()) where = escaped(path, PATH_MAX);
  return Error{Code::invalid_checkpoint, "weights index rejected", std::move(where),
               std::move(detail)};
}

// total_size says nothing that the shards don't: it is compared, never used.
void read_total_size(const Node& json, ShardIndex& index) {
  const Node* metadata = json.find("metadata");
  const Node* total = metadata == nullptr ? nullptr : metadata->find("total_size");
  if (total == nullptr) return;
  // Some tools write it as a float.
  if (total->is_numeric() && total->number() >= 0 && total->number() < 9e18) {
    index.total_nbytes = total->is_integer() ? static_cast<uint64_t>(total->integer())
                                             : static_cast<uint64_t>(total->number());
    return;
  }
  index.notes.push_back(
      fmt::format("{}: total_size is {}, expected bytes", total->mark().text(), total->describe()));
}

struct Disagreement {
  std::string_view text;  // before the names
  std::vector<std::string> names;

  std::string describe() const {
    constexpr size_t kShown = 10;
    std::vector<std::string> shown;
    for (size_t i = 0; i < std::min(kShown, names.size()); ++i) {
      shown.push_back(loadstone::quoted(names[i]));
    }
    return fmt::format("{} {} ({}{})", names.size(), text, join(shown, ", "),
                       names.size() > kShown ? ", …" : "");
  }
};

}  // namespace

bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.size() > NAME_MAX) return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

Result<ShardIndex> parse_shard_index(const Node& json, const std::string& path) {
  const Node* map = json.find("weight_map");
  if (map == nullptr || !map->is_map()) {
    return rejected(path, map == nullptr ? json : *map,
                    fmt::format("found {}, expected a map \"weight_map\" of tensor to file",
                                map == nullptr ? "no \"weight_map\"" : map->describe()));
  }
  if (map->entries().empty()) {
    return rejected(path, *map, "found an empty \"weight_map\", expected tensors");
  }
  ShardIndex index;
  index.path = path;
  std::unordered_map<std::string_view, uint32_t> known;
  for (const auto& [name, value] : map->entries()) {
    if (!value.is_text() || !is_plain_file_name(value.text())) {
      return rejected(path, value,
                      fmt::format("found {} as the file of {}, expected a file name of the same "
                                  "folder",
                                  value.describe(), loadstone::quoted(name)));
    }
    const auto [at, is_new] =
        known.emplace(value.text(), static_cast<uint32_t>(index.shards.size()));
    if (is_new) index.shards.push_back(value.text());
    index.tensors.emplace_back(name, at->second);
  }
  read_total_size(json, index);
  return index;
}

Status check_against_shards(const ShardIndex& index, const std::vector<TensorEntry>& tensors,
                            const OpenOptions& options, std::vector<std::string>& notes) {
  constexpr uint32_t kNone = UINT32_MAX;
  std::unordered_map<std::string_view, uint32_t> found;  // tensor to shard
  found.reserve(tensors.size());
  Disagreement twice{"tensors lie in two shards", {}};
  for (const TensorEntry& tensor : tensors) {
    if (!found.emplace(tensor.name, tensor.file).second) twice.names.push_back(tensor.name);
  }
  Disagreement absent{"tensors of the index are in no shard", {}};
  Disagreement elsewhere{"tensors lie in another shard than the index says", {}};
  for (const auto& [name, shard] : index.tensors) {
    const auto at = found.find(name);
    if (at == found.end()) {
      absent.names.push_back(name);
    } else {
      if (at->second != shard) elsewhere.names.push_back(name);
      at->second = kNone;
    }
  }
  Disagreement unnamed{"tensors of the shards are not in the index", {}};
  for (const TensorEntry& tensor : tensors) {
    const auto at = found.find(tensor.name);
    if (at->second != kNone) unnamed.names.push_back(tensor.name);
  }
  if (options.lenient && !unnamed.names.empty()) {
    notes.push_back(fmt::format("{}: {}", escaped(index.path, PATH_MAX), unnamed.describe()));
    unnamed.names.clear();
  }
  std::vector<std::string> problems;
  for (const Disagreement* kind : {&absent, &elsewhere, &twice, &unnamed}) {
    if (!kind->names.empty()) problems.push_back(kind->describe());
  }
  if (problems.empty()) return {};
  return Error{Code::invalid_checkpoint, "shards disagree with their index",
               escaped(index.path, PATH_MAX),
               fmt::format("found that {}, expected each tensor once, where the index says (an "
                           "interrupted download?)",
                           join(problems, " and "))};
}

}  // namespace loadstone::formats
