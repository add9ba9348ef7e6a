// Test side only: declarations as JSON, handed to read_declaration, and what it declares.
#pragma once

#include <fnmatch.h>
#include <regex.h>

#include <deque>
#include <loadstone/plugin.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace loadstone::common::testing {

/// Whether `text` holds a match of `pattern`; -1 for a pattern that doesn't compile. libc's
/// extended expressions stand in for the host's: without non-capturing groups, which become plain
/// ones.
inline int regex_search(std::string pattern, const std::string& text) {
  for (size_t at = pattern.find("(?:"); at != std::string::npos; at = pattern.find("(?:")) {
    pattern.replace(at, 3, "(");
  }
  regex_t compiled;
  if (regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB) != 0) return -1;
  const int found = regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0 ? 1 : 0;
  regfree(&compiled);
  return found;
}

struct DeclaredField {
  std::string pattern;  // "": all layers
  uint32_t style;
  std::string name;
  nlohmann::json value;
};
struct DeclaredScope {
  std::string pattern;
  uint32_t style;
  bool keep;
};

struct Declared {
  std::vector<DeclaredField> fields;
  std::vector<DeclaredScope> scopes;

  /// The value for all layers.
  nlohmann::json value(const std::string& name) const {
    nlohmann::json out;
    for (const DeclaredField& field : fields) {
      if (field.pattern.empty() && field.name == name) out = field.value;
    }
    return out;
  }
  /// The fields of one module: exact patterns win over suffixes, those over the others.
  nlohmann::json of(const std::string& module) const {
    nlohmann::json out = nlohmann::json::object();
    for (const int rank : {0, 1, 2, 3}) {
      for (const DeclaredField& field : fields) {
        const int own = field.pattern.empty()            ? 0
                        : field.style == LS_STYLE_EXACT  ? 3
                        : field.style == LS_STYLE_SUFFIX ? 2
                                                         : 1;
        if (own == rank && matches(field.pattern, field.style, module)) {
          out[field.name] = field.value;
        }
      }
    }
    return out;
  }

  static bool matches(const std::string& pattern, uint32_t style, const std::string& module) {
    if (pattern.empty() || module == pattern) return true;
    if (style == LS_STYLE_SUFFIX) {
      return module.size() > pattern.size() && module.ends_with("." + pattern);
    }
    if (style == LS_STYLE_REGEX) return regex_search(pattern, module) == 1;
    if (style == LS_STYLE_GLOB) return ::fnmatch(pattern.c_str(), module.c_str(), 0) == 0;
    if (style == LS_STYLE_SEGMENTS) return sdk::segments_match(pattern, module);
    return style == LS_STYLE_PREFIX && module.starts_with(pattern + ".");
  }
};

inline const ls_node* as_node(const nlohmann::json& json) {
  return reinterpret_cast<const ls_node*>(&json);
}
inline const nlohmann::json& as_json(const ls_node* node) {
  return *reinterpret_cast<const nlohmann::json*>(node);
}

namespace detail {

inline nlohmann::json json_of(const ls_value& value) {
  switch (value.type) {
    case LS_FIELD_BOOL:
      return value.integer != 0;
    case LS_FIELD_INTEGER:
      return value.integer;
    case LS_FIELD_NUMBER:
      return value.number;
    case LS_FIELD_TEXT:
      return std::string(value.text);
    case LS_FIELD_TREE:
      return nlohmann::json::parse(value.text);
    default:
      break;
  }
  nlohmann::json out = nlohmann::json::array();
  for (uint64_t i = 0; i < value.count; ++i) {
    if (value.type == LS_FIELD_TEXTS) {
      out.push_back(value.texts[i]);
    } else {
      out.push_back(value.integers[i]);
    }
  }
  return out;
}

/// Texts handed out live until the program ends.
inline const char* kept_text(std::string text) {
  static std::deque<std::string> kept;
  return kept.emplace_back(std::move(text)).c_str();
}

inline uint32_t kind_of(const nlohmann::json& json) {
  if (json.is_null()) return 0;
  if (json.is_boolean()) return LS_FIELD_BOOL;
  if (json.is_number_integer()) return LS_FIELD_INTEGER;
  if (json.is_number()) return LS_FIELD_NUMBER;
  if (json.is_string()) return LS_FIELD_TEXT;
  return json.is_array() ? LS_FIELD_TEXTS : LS_FIELD_TREE;
}

}  // namespace detail

/// Node access, declare_field and declare_scope (sinks are `Declared`), and regular expressions.
inline void lend_declarations(ls_host& host) {
  host.node_get = [](const ls_node* node, const char* key) -> const ls_node* {
    const auto found = as_json(node).find(key);
    return found == as_json(node).end() ? nullptr : as_node(*found);
  };
  host.node_at = [](const ls_node* node, uint64_t index, const char** key) -> const ls_node* {
    auto at = as_json(node).begin();
    std::advance(at, index);
    if (key != nullptr) {
      *key = as_json(node).is_object() ? detail::kept_text(at.key()) : nullptr;
    }
    return as_node(*at);
  };
  host.node_count = [](const ls_node* node) -> uint64_t { return as_json(node).size(); };
  host.node_text = [](const ls_node* node) -> const char* {
    const nlohmann::json& json = as_json(node);
    if (json.is_null()) return nullptr;
    return detail::kept_text(json.is_string() ? json.get<std::string>() : json.dump());
  };
  host.node_kind = [](const ls_node* node) { return detail::kind_of(as_json(node)); };
  host.declare_field = [](ls_sink* sink, const char* pattern, uint32_t style,
                          const ls_value* value) -> int32_t {
    reinterpret_cast<Declared*>(sink)->fields.push_back(
        {pattern == nullptr ? "" : pattern, style, value->name, detail::json_of(*value)});
    return LS_OK;
  };
  host.declare_scope = [](ls_sink* sink, const char* pattern, uint32_t style,
                          uint32_t scope) -> int32_t {
    reinterpret_cast<Declared*>(sink)->scopes.push_back({pattern, style, scope == LS_SCOPE_KEEP});
    return LS_OK;
  };
  host.match = [](uint32_t style, const char* pattern, const char* text) -> int32_t {
    if (style != LS_STYLE_REGEX) return Declared::matches(pattern, style, text) ? 1 : 0;
    const int found = regex_search(pattern, text);
    return found < 0 ? -LS_INVALID_CONFIG : found;
  };
}

}  // namespace loadstone::common::testing
