// What `gguf_model` names: a file, "repo/file.gguf" or "repo:TYPE".
#pragma once

#include <string>

#include "base/file.hpp"
#include "base/result.hpp"
#include "formats/hub_cache.hpp"

namespace loadstone::formats {

struct GgufReference {
  enum class Kind : uint8_t {
    file,           // `place` is a file that exists
    in_repository,  // file `name` of repository (or folder) `place`
    by_type,        // the file of repository or folder `place` whose name ends in type `name`
  };
  Kind kind = Kind::file;
  std::string place, name;
};

/// The first that fits: a file that exists; the last '/' before a name that ends in ".gguf"; the
/// last ':' of a text with a '/'. Errors: invalid_config.
Result<GgufReference> parse_gguf_reference(FileSystem& files, const std::string& text);

/// The file, of a split set its first part. Repositories are looked up in the hub's cache: nothing
/// is downloaded. A type is that of "*-TYPE.gguf" or "*-TYPE-*.gguf", there or one folder down; of
/// several the one with the fewest '-'.
/// Errors: those above; not_found (says what lies there, or how to download), invalid_config
/// (several models of the type).
Result<std::string> find_gguf(FileSystem& files, const std::string& text,
                              const HubEnvironment& environment);

}  // namespace loadstone::formats
