#include "config/rules.hpp"

#include "base/text.hpp"
#include "config/choice.hpp"
#include "config/pattern.hpp"

namespace loadstone::config {
namespace {

const std::vector<std::string> kRuleKeys = {"component",     "layer", "role",
                                            "kind",          "dtype", "min_elements",
                                            "max_elements",  "use",   "allow_unmatched",
                                            "on_unsupported"};
const std::vector<std::string> kKinds = {"linear", "grouped_linear", "gather", "attention",
                                         "other"};

std::optional<std::string> read_text(std::string_view key, const Node& value,
                                     std::vector<std::string> choices, Problems& problems) {
  Field field;
  field.name = std::string(key);
  field.choices = std::move(choices);
  const Node read = read_field(field, value, problems).value_or(Node());
  if (read.is_null()) return std::nullopt;
  return read.text();
}

/// A pattern that compiles, else a problem at its place.
std::optional<std::string> read_pattern(std::string_view key, const Node& value,
                                        Problems& problems) {
  auto text = read_text(key, value, {}, problems);
  if (!text) return text;
  Status status = check_pattern(*text);
  if (status.ok()) return text;
  problems.add(std::move(status).error().at(value.mark().text()));
  return std::nullopt;
}

std::optional<uint64_t> read_count(std::string_view key, const Node& value, Problems& problems) {
  Field field;
  field.name = std::string(key);
  field.type = FieldType::integer;
  field.low = 0;
  const Node read = read_field(field, value, problems).value_or(Node());
  if (read.is_null()) return std::nullopt;
  return static_cast<uint64_t>(read.integer());
}

void read_use(const Node& value, const Schemas& schemas, Rule& rule, Problems& problems) {
  const std::string* text = value.is_null() ? nullptr : name_text(value);
  if (value.is_null() || (text && (fold_name(*text) == "keep" || fold_name(*text) == "none"))) {
    return;  // keep
  }
  rule.use = read_choice(value, Node(), schemas, problems);
}

Rule read_rule(const Node& map, const Schemas& schemas, Problems& problems) {
  Rule rule;
  rule.mark = map.mark();
  bool uses = false;
  for (const auto& [key, value] : map.entries()) {
    if (key == "component") {
      rule.component = read_pattern(key, value, problems);
    } else if (key == "layer") {
      rule.layer = read_pattern(key, value, problems);
    } else if (key == "role") {
      rule.role = read_pattern(key, value, problems);
    } else if (key == "kind") {
      rule.kind = read_text(key, value, kKinds, problems);
    } else if (key == "dtype") {
      rule.dtype = read_text(key, value, {}, problems);
    } else if (key == "min_elements") {
      rule.min_elements = read_count(key, value, problems);
    } else if (key == "max_elements") {
      rule.max_elements = read_count(key, value, problems);
    } else if (key == "allow_unmatched") {
      rule.allow_unmatched = read_flag(key, value, problems);
    } else if (key == "on_unsupported") {
      rule.on_unsupported = read_on_unsupported(value, problems);
    } else if (key == "use") {
      uses = true;
      read_use(value, schemas, rule, problems);
    } else {
      std::string hint = nearest(key, kRuleKeys);
      problems.add("unknown key of a rule", value.key_mark(),
                   "found " + quoted(key) + ", expected one of " + join(kRuleKeys),
                   hint.empty() ? "" : quoted(hint));
    }
  }
  if (!uses) {
    problems.add("rule decides nothing", map.mark(), "found no \"use\", expected a method or keep");
  }
  if (rule.min_elements && rule.max_elements && *rule.min_elements > *rule.max_elements) {
    problems.add("rule can't match", map.mark(),
                 "found min_elements " + std::to_string(*rule.min_elements) +
                     " above max_elements " + std::to_string(*rule.max_elements) +
                     ", expected a range");
  }
  return rule;
}

}  // namespace

std::vector<Rule> read_rules(const Node& list, const Schemas& schemas, Problems& problems) {
  std::vector<Rule> rules;
  if (list.is_null()) return rules;
  if (!list.is_list()) {
    problems.add("rules rejected", list.mark(),
                 "found " + list.describe() + ", expected a list of rules");
    return rules;
  }
  for (const Node& item : list.items()) {
    if (!item.is_map()) {
      problems.add(
          "rule rejected", item.mark(),
          "found " + item.describe() + ", expected a map such as {layer: \"…\", use: keep}");
      continue;
    }
    rules.push_back(read_rule(item, schemas, problems));
  }
  return rules;
}

}  // namespace loadstone::config
