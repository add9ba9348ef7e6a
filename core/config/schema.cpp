#include <algorithm>

#include "config/quant_config.hpp"

namespace loadstone::config {

std::string fold_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '-') c = '_';
  }
  return out;
}

const MethodSchema* Schemas::find(std::string_view spelling) const {
  const std::string folded = fold_name(spelling);
  for (const MethodSchema& schema : methods) {
    if (fold_name(schema.method) == folded) return &schema;
  }
  for (const MethodSchema& schema : methods) {
    for (const std::string& alias : schema.aliases) {
      if (fold_name(alias) == folded) return &schema;
    }
  }
  return nullptr;
}

std::string_view to_string(From from) {
  switch (from) {
    case From::user:
      return "user";
    case From::checkpoint:
      return "checkpoint";
    case From::fallback:
      return "default";
  }
  return "default";
}

const Node* MethodChoice::field(std::string_view name) const {
  auto found = fields.find(std::string(name));
  if (found == fields.end() || found->second.value.is_null()) return nullptr;
  return &found->second.value;
}

bool same_fields(const MethodChoice& a, const MethodChoice& b) {
  return std::equal(a.fields.begin(), a.fields.end(), b.fields.begin(), b.fields.end(),
                    [](const auto& x, const auto& y) { return x.second.value == y.second.value; });
}

}  // namespace loadstone::config
