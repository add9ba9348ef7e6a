#include "formats/gguf_reference.hpp"

#include <algorithm>
#include <climits>
#include <utility>
#include <vector>

#include "base/text.hpp"
#include "formats/model_files.hpp"
#include "formats/weight_files.hpp"

namespace loadstone::formats {
namespace {

constexpr std::string_view kEnding = ".gguf";

Error rejected(const std::string& text, Code code, std::string found, std::string expected) {
  return Error{code, "gguf_model rejected", loadstone::quoted(text, PATH_MAX),
               "found " + std::move(found) + ", expected " + std::move(expected)};
}

/// "org/name/sub/folder" → the hub's name and what lies below it.
std::pair<std::optional<HubName>, std::string> split_repository(const std::string& place) {
  const size_t first = place.find('/');
  const size_t second = first == std::string::npos ? first : place.find('/', first + 1);
  std::string below = second == std::string::npos ? "" : place.substr(second + 1);
  return {parse_hub_name(place.substr(0, second)), std::move(below)};
}

bool leads_out(const std::string& below) {
  return ("/" + below + "/").find("/../") != std::string::npos;
}

/// The folder that `place` means: one that exists, or a snapshot in the hub's cache.
Result<std::string> folder_of(FileSystem& files, const std::string& text, const std::string& place,
                              const HubEnvironment& environment) {
  if (files.is_directory(place)) return place;
  const auto [hub, below] = split_repository(place);
  if (!hub || leads_out(below)) {
    return rejected(text, Code::not_found, "no folder " + loadstone::quoted(place, PATH_MAX),
                    "a file, REPO/FILE.gguf or REPO:TYPE (REPO: a folder or ORGANISATION/NAME)");
  }
  LS_TRY(std::string folder, find_in_hub_cache(files, *hub, environment));
  return below.empty() ? folder : join_path(folder, below);
}

/// GGUF files of a folder and of those one down, first parts of sets only.
std::vector<std::string> ggufs_in(FileSystem& files, const std::string& folder, int depth = 0) {
  std::vector<std::string> out;
  const auto entries = files.list(folder);
  if (!entries.ok()) return out;
  for (const DirectoryEntry& entry : *entries) {
    const std::string path = join_path(folder, entry.name);
    if (files.is_directory(path)) {
      if (depth > 0 || entry.name.starts_with('.')) continue;
      for (std::string& inner : ggufs_in(files, path, 1)) {
        out.push_back(join_path(entry.name, inner));
      }
    } else if (entry.name.ends_with(kEnding)) {
      const auto total = shard_total(entry.name, kEnding);
      const bool later = total && entry.name.find("-00001-of-") == std::string::npos;
      if (!later) out.push_back(entry.name);
    }
  }
  return out;
}

bool is_of_type(const std::string& path, const std::string& type) {
  const std::string name = base_name(path);
  return name.ends_with("-" + type + std::string(kEnding)) ||
         name.find("-" + type + "-") != std::string::npos;
}

Result<std::string> find_by_type(FileSystem& files, const std::string& text,
                                 const GgufReference& reference, const std::string& folder) {
  const std::vector<std::string> all = ggufs_in(files, folder);
  std::vector<std::string> fit;
  for (const std::string& path : all) {
    if (is_of_type(path, reference.name)) fit.push_back(path);
  }
  const auto dashes = [](const std::string& path) {
    return std::count(path.begin(), path.end(), '-');
  };
  std::stable_sort(fit.begin(), fit.end(), [&](const std::string& a, const std::string& b) {
    return dashes(a) < dashes(b);
  });
  if (fit.empty()) {
    std::vector<std::string> shown;
    for (const std::string& path : all) shown.push_back(escaped(path));
    return rejected(text, Code::not_found,
                    "no file of type " + loadstone::quoted(reference.name) + " in " +
                        loadstone::quoted(folder, PATH_MAX),
                    shown.empty() ? "one (download it first)" : "one of " + join(shown, ", ", 10));
  }
  if (fit.size() > 1 && dashes(fit[0]) == dashes(fit[1])) {
    return rejected(text, Code::invalid_config, escaped(fit[0]) + " and " + escaped(fit[1]),
                    "one file of the type (name the file)");
  }
  return join_path(folder, fit[0]);
}

Result<std::string> find_by_name(FileSystem& files, const std::string& text,
                                 const GgufReference& reference, const std::string& folder) {
  std::string path = join_path(folder, reference.name);
  if (files.is_regular(path)) return path;
  const std::vector<std::string> all = ggufs_in(files, folder);
  const std::string near = nearest(reference.name, all);
  Error error = rejected(
      text, Code::not_found,
      "no file " + loadstone::quoted(reference.name) + " in " + loadstone::quoted(folder, PATH_MAX),
      "one that is there (download it first)");
  if (!near.empty()) error.hint = loadstone::quoted(near);
  return error;
}

}  // namespace

Result<GgufReference> parse_gguf_reference(FileSystem& files, const std::string& text) {
  if (files.is_regular(text)) return GgufReference{GgufReference::Kind::file, text, ""};
  const size_t slash = text.rfind('/');
  if (slash != std::string::npos && text.ends_with(kEnding)) {
    return GgufReference{GgufReference::Kind::in_repository, text.substr(0, slash),
                         text.substr(slash + 1)};
  }
  const size_t colon = text.rfind(':');
  if (slash != std::string::npos && colon != std::string::npos) {
    return GgufReference{GgufReference::Kind::by_type, text.substr(0, colon),
                         text.substr(colon + 1)};
  }
  return rejected(text, Code::invalid_config, "no such file",
                  "a file, REPO/FILE.gguf or REPO:TYPE");
}

Result<std::string> find_gguf(FileSystem& files, const std::string& text,
                              const HubEnvironment& environment) {
  LS_TRY(const GgufReference reference, parse_gguf_reference(files, text));
  if (reference.kind == GgufReference::Kind::file) return reference.place;
  if (reference.name.empty()) {
    return rejected(text, Code::invalid_config, "no type behind the colon", "one, such as Q4_0");
  }
  LS_TRY(const std::string folder, folder_of(files, text, reference.place, environment));
  if (reference.kind == GgufReference::Kind::by_type) {
    return find_by_type(files, text, reference, folder);
  }
  return find_by_name(files, text, reference, folder);
}

}  // namespace loadstone::formats
