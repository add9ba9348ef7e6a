// Whose files may be run: not what others could have written.
#pragma once

#include <string>

#include "base/result.hpp"

namespace loadstone::plugin {

/// Errors: invalid_argument when `path` (a file or folder; links followed, `shown` in errors)
/// belongs to neither this user nor root, or is writable by the world or by a group that isn't the
/// user's own; io.
Status check_trusted(const std::string& path, const std::string& shown);

}  // namespace loadstone::plugin
