#include "formats/model_index.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

Error rejected(const std::string& path, const Mark& mark, std::string detail) {
  std::string where = mark.text();
  if (where.empty()) where = escaped(path, PATH_MAX);
  return Error{Code::invalid_checkpoint, "model_index.json rejected", std::move(where),
               std::move(detail)};
}

bool is_component_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

}  // namespace

Result<std::vector<IndexedComponent>> parse_model_index(const Node& json, const std::string& path) {
  if (!json.is_map()) {
    return rejected(path, json.mark(),
                    fmt::format("found {}, expected a map of components", json.describe()));
  }
  std::vector<IndexedComponent> components;
  for (const auto& [name, value] : json.entries()) {
    if (name.starts_with('_')) continue;
    if (!value.is_list() && !value.is_map()) continue;  // a setting of the pipeline
    if (!is_component_name(name)) {
      return rejected(path, value.key_mark(),
                      fmt::format("found component {}, expected a name of letters, digits and _",
                                  loadstone::quoted(name)));
    }
    const bool is_pair = value.is_list() && value.items().size() == 2;
    if (is_pair && value.items()[0].is_null() && value.items()[1].is_null()) continue;
    if (!is_pair || !value.items()[0].is_text() || !value.items()[1].is_text()) {
      return rejected(path, value.mark(),
                      fmt::format("found {} for component {}, expected [library, class] or [null, "
                                  "null]",
                                  value.describe(), loadstone::quoted(name)));
    }
    components.push_back({name, value.items()[0].text(), value.items()[1].text()});
  }
  return components;
}

}  // namespace loadstone::formats
