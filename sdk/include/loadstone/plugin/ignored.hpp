// The common rule of `ignored_layers`, the wrapper's default filter.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layer.hpp"

namespace loadstone::sdk {

/// Whether `entry` is a run of whole consecutive segments of `path`: "img_mlp" in
/// "blocks.3.img_mlp.net.0".
inline bool segments_match(std::string_view entry, std::string_view path) {
  if (entry.empty()) return false;
  for (size_t at = path.find(entry); at != std::string_view::npos; at = path.find(entry, at + 1)) {
    const size_t end = at + entry.size();
    if ((at == 0 || path[at - 1] == '.') && (end == path.size() || path[end] == '.')) return true;
  }
  return false;
}

namespace detail {

/// Patterns are the host's business, so that every plugin reads them alike.
inline bool pattern_matches(uint32_t style, const std::string& pattern, std::string_view path) {
  if (host().match == nullptr) {
    fail(LS_UNSUPPORTED, "ignored_layers entry rejected: found pattern \"" + pattern +
                             "\", expected plain names from this host");
  }
  const int32_t answer = host().match(style, pattern.c_str(), std::string(path).c_str());
  if (answer < 0) fail(-answer, "ignored_layers entry rejected: \"" + pattern + "\"");
  return answer != 0;
}

inline bool entry_matches_path(std::string_view entry, std::string_view path) {
  if (entry.substr(0, 3) == "re:") {  // from the name's start
    const std::string anchored = "^(?:" + std::string(entry.substr(3)) + ")";
    return pattern_matches(LS_STYLE_REGEX, anchored, path);
  }
  if (entry.find_first_of("*?[{") != std::string_view::npos) {
    return pattern_matches(LS_STYLE_GLOB, std::string(entry), path);
  }
  return segments_match(entry, path);
}

/// Against the path inside the component and against "component.path".
inline bool entry_matches(std::string_view entry, std::string_view component,
                          std::string_view path) {
  if (entry_matches_path(entry, path)) return true;
  return !component.empty() &&
         entry_matches_path(entry, std::string(component) + "." + std::string(path));
}

}  // namespace detail

/// The entry that leaves `layer` unquantized, or null. A fused layer is named by its own path or by
/// all of its parts' names; some of them only is an error that lists the others.
inline const char* ignored_by(const std::vector<std::string>& entries, const Layer& layer) {
  for (const std::string& entry : entries) {
    if (detail::entry_matches(entry, layer.component(), layer.path())) return entry.c_str();
  }
  const char* first = nullptr;
  std::string missing;
  for (uint64_t i = 0; i < layer.part_count() && !entries.empty(); ++i) {
    const Part part = layer.part(i);
    const char* by = nullptr;
    for (const std::string& entry : entries) {
      if (detail::entry_matches(entry, layer.component(), part.path())) {
        by = entry.c_str();
        break;
      }
    }
    if (by == nullptr) {
      missing += (missing.empty() ? "\"" : ", \"") + std::string(part.path()) + "\"";
    } else if (first == nullptr) {
      first = by;
    }
  }
  if (first != nullptr && !missing.empty()) {
    fail(LS_INVALID_CONFIG,
         "ignored_layers names some parts of a fused layer: " + std::string(layer.path()) +
             ": found \"" + first + "\", expected also " + missing);
  }
  return first;
}

}  // namespace loadstone::sdk
