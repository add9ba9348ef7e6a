#include "formats/hub_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <string_view>

#include "base/text.hpp"
#include "formats/model_files.hpp"

namespace loadstone::formats {
namespace {

constexpr uint64_t kMaxRefNbytes = 64;
constexpr size_t kMaxNameLength = 96;  // the hub's own limit

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// Letters, digits, '-', '_', '.'; begins with a letter or digit; no ".." or "--", which the hub
// refuses and the cache's folder names could not tell apart.
bool is_name_part(std::string_view part) {
  if (part.empty() || part.size() > kMaxNameLength) return false;
  if (!std::isalnum(static_cast<unsigned char>(part.front()))) return false;
  if (part.find("..") != std::string_view::npos || part.find("--") != std::string_view::npos) {
    return false;
  }
  return std::all_of(part.begin(), part.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string display_name(const HubName& name) {
  return name.organisation + "/" + name.repository +
         (name.revision.empty() ? "" : "@" + name.revision);
}

Error not_downloaded(const HubName& name, std::string found) {
  return Error{Code::not_found, "model not found", display_name(name),
               fmt::format("found {}, expected a downloaded model; download it with: hf download "
                           "{}/{}{}",
                           found, name.organisation, name.repository,
                           name.revision.empty() ? "" : " --revision " + name.revision)};
}

Result<std::string> read_ref(FileSystem& files, const std::string& path) {
  LS_TRY(std::string text, read_text(files, path, kMaxRefNbytes));
  const size_t begin = text.find_first_not_of(" \t\r\n");
  const size_t end = text.find_last_not_of(" \t\r\n");
  text = begin == std::string::npos ? std::string() : text.substr(begin, end - begin + 1);
  if (is_commit(text)) return text;
  return Error{
      Code::invalid_checkpoint, "hub cache reference rejected", escaped(path, PATH_MAX),
      fmt::format("found {}, expected a commit of 40 hexadecimal digits", loadstone::quoted(text))};
}

}  // namespace

HubEnvironment HubEnvironment::of_process() {
  return {variable("HF_HUB_CACHE"), variable("HF_HOME"), variable("XDG_CACHE_HOME"),
          variable("HOME")};
}

std::optional<HubName> parse_hub_name(const std::string& text) {
  HubName name;
  const size_t at = text.find('@');
  const std::string repository = text.substr(0, at);
  const size_t slash = repository.find('/');
  if (slash == std::string::npos) return std::nullopt;
  name.organisation = repository.substr(0, slash);
  name.repository = repository.substr(slash + 1);
  if (!is_name_part(name.organisation) || !is_name_part(name.repository)) return std::nullopt;
  if (at == std::string::npos) return name;
  name.revision = text.substr(at + 1);
  if (!is_name_part(name.revision)) return std::nullopt;
  return name;
}

Result<std::string> hub_cache_folder(const HubEnvironment& environment) {
  struct Choice {
    std::string_view variable;
    const std::string& value;
    std::string_view below;
  };
  const Choice choices[] = {
      {"HF_HUB_CACHE", environment.hf_hub_cache, ""},
      {"HF_HOME", environment.hf_home, "hub"},
      {"XDG_CACHE_HOME", environment.xdg_cache_home, "huggingface/hub"},
      {"HOME", environment.home, ".cache/huggingface/hub"},
  };
  for (const Choice& choice : choices) {
    if (choice.value.empty()) continue;
    std::string folder = choice.value;
    if (folder.starts_with("~/") && !environment.home.empty()) {
      folder = environment.home + folder.substr(1);
    }
    if (!folder.starts_with('/') || (folder + "/").find("/../") != std::string::npos) {
      return Error{Code::invalid_argument, "hub cache folder rejected",
                   std::string(choice.variable),
                   fmt::format("found {}, expected an absolute path without \"..\"",
                               loadstone::quoted(choice.value, PATH_MAX))};
    }
    return choice.below.empty() ? folder : join_path(folder, std::string(choice.below));
  }
  return Error{Code::not_found, "hub cache folder unknown", "HOME",
               "found it unset, expected HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or HOME"};
}

Result<std::string> find_in_hub_cache(FileSystem& files, const HubName& name,
                                      const HubEnvironment& environment) {
  LS_TRY(const std::string cache, hub_cache_folder(environment));
  const std::string repository =
      join_path(cache, "models--" + name.organisation + "--" + name.repository);
  if (!files.is_directory(repository)) {
    return not_downloaded(name, fmt::format("no file or folder of that name, and no such model in "
                                            "the hub cache {}",
                                            loadstone::quoted(cache, PATH_MAX)));
  }
  std::string commit = name.revision;
  if (!is_commit(commit)) {
    const std::string branch = name.revision.empty() ? "main" : name.revision;
    auto read = read_ref(files, repository + "/refs/" + branch);
    if (!read.ok() && read.error().code == Code::not_found) {
      return not_downloaded(name, fmt::format("no revision {} in {}", loadstone::quoted(branch),
                                              loadstone::quoted(repository, PATH_MAX)));
    }
    LS_TRY(commit, std::move(read));
  }
  std::string snapshot = repository + "/snapshots/" + commit;
  if (files.is_directory(snapshot)) return snapshot;
  return not_downloaded(
      name, fmt::format("no snapshot {} in {}", commit, loadstone::quoted(repository, PATH_MAX)));
}

}  // namespace loadstone::formats
