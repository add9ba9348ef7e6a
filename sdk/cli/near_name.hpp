// The hint of an error: the nearest name in quotes, or nothing.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/text.hpp"

namespace loadstone::cli {

inline std::string near_name(std::string_view name, std::span<const std::string> candidates) {
  const std::string found = nearest(name, candidates);
  return found.empty() ? "" : loadstone::quoted(found);
}

}  // namespace loadstone::cli
