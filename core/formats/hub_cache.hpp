// Names such as "Qwen/Qwen-Image" in the local cache of the Hugging Face hub. Nothing is
// downloaded.
#pragma once

#include <optional>
#include <string>

#include "base/file.hpp"
#include "base/result.hpp"

namespace loadstone::formats {

/// The variables that place the cache; unset ones are empty.
struct HubEnvironment {
  std::string hf_hub_cache = {};
  std::string hf_home = {};
  std::string xdg_cache_home = {};
  std::string home = {};
  static HubEnvironment of_process();
};

struct HubName {
  std::string organisation, repository;
  std::string revision;  // "" for the default branch
};

/// "ORG/NAME" or "ORG/NAME@REVISION"; nullopt for anything else (a path, "a/b/c", "../x").
std::optional<HubName> parse_hub_name(const std::string& text);

/// HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, HOME/.cache/huggingface/hub: the
/// first that is set. It must be absolute and without "..".
Result<std::string> hub_cache_folder(const HubEnvironment& environment);

/// The snapshot folder of a name. not_found says how to download it.
Result<std::string> find_in_hub_cache(FileSystem& files, const HubName& name,
                                      const HubEnvironment& environment);

}  // namespace loadstone::formats
