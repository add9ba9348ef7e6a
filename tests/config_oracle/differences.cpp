#include "differences.hpp"

#include <algorithm>

#include "base/file.hpp"
#include "base/text.hpp"
#include "config/pattern.hpp"
#include "config/quant_config.hpp"

namespace loadstone::oracle {
namespace {

std::string kind_name(const Node& node) {
  return node.is_integer() ? "integer" : std::string(to_string(node.kind()));
}

/// Whether `node` (null pointer: absent) meets a condition. A condition is
///   a text: glob over a text (or over the JSON of anything else)
///   a map: every key holds: is (kind or list of kinds), equals, not (a condition), any (a
///   condition
///          that some item or value meets), keys (a condition that some key meets), absent, or the
///          name of a key of the node with a condition for it
///   a list: one of these conditions
bool meets(const Node* node, const Node& condition);

bool meets_any(const Node* node, const Node& condition, bool keys) {
  if (!node) return false;
  if (node->is_list()) {
    for (const Node& item : node->items()) {
      if (!keys && meets(&item, condition)) return true;
    }
  }
  if (node->is_map()) {
    for (const auto& [key, value] : node->entries()) {
      Node name = Node::of_text(key);
      if (meets(keys ? &name : &value, condition)) return true;
    }
  }
  return false;
}

bool is_kind(const Node* node, const Node& condition) {
  if (!node) return false;
  if (condition.is_text()) return kind_name(*node) == condition.text();
  for (const Node& one : condition.items()) {
    if (kind_name(*node) == one.text()) return true;
  }
  return false;
}

bool meets_key(const Node* node, const std::string& key, const Node& condition) {
  if (key == "is") return is_kind(node, condition);
  if (key == "equals") return node && *node == condition;
  if (key == "not") return !meets(node, condition);
  if (key == "any") return meets_any(node, condition, false);
  if (key == "keys") return meets_any(node, condition, true);
  if (key == "absent") return (node == nullptr) == condition.boolean();
  if (key == "all_of") {
    for (const Node& one : condition.items()) {
      if (!meets(node, one)) return false;
    }
    return true;
  }
  if (key.rfind("below_", 0) == 0) {
    return node && node->is_integer() && node->integer() < std::stoll(key.substr(6));
  }
  return meets(node ? node->find(key) : nullptr, condition);
}

bool meets(const Node* node, const Node& condition) {
  if (condition.is_text()) {
    return node &&
           config::glob_matches(condition.text(), node->is_text() ? node->text() : node->to_json());
  }
  if (condition.is_list()) {
    for (const Node& one : condition.items()) {
      if (meets(node, one)) return true;
    }
    return false;
  }
  if (condition.is_map()) {
    for (const auto& [key, value] : condition.entries()) {
      if (!meets_key(node, key, value)) return false;
    }
    return true;
  }
  return node && *node == condition;
}

bool ours_is(const Answer& ours, const Node& condition) {
  if (condition.is_list()) {
    return std::any_of(condition.items().begin(), condition.items().end(),
                       [&](const Node& one) { return ours_is(ours, one); });
  }
  if (const Node* text = condition.find("refused")) {
    const Node error = Node::of_text(ours.error);
    return ours.kind == Answer::Kind::refused && meets(&error, *text);
  }
  if (const Node* value = condition.find("accepted")) {
    return ours.kind == Answer::Kind::accepted && meets(&ours.value, *value);
  }
  return false;
}

}  // namespace

Result<std::vector<Rule>> read_rules(const std::string& path) {
  LS_TRY(std::string text, read_text(system_files(), path, 1u << 20));
  LS_TRY(Node root, config::parse_yaml(text, path));
  std::vector<Rule> out;
  for (const Node& item : root.items()) {
    Rule rule;
    for (const auto& [key, value] : item.entries()) {
      if (key == "name") rule.name = value.text();
      if (key == "reason") rule.reason = value.text();
      if (key == "input") rule.input = value;
      if (key == "result") rule.result = value;
      if (key == "ours") rule.ours = value;
      if (key == "differs") rule.differs = value;
      if (key != "kinds") continue;
      for (const Node& kind : value.items()) rule.kinds.push_back(kind.text());
    }
    if (rule.name.empty() || rule.reason.empty() || rule.kinds.empty() || rule.ours.is_null()) {
      return Error{Code::invalid_config,
                   "difference rejected",
                   item.mark().text(),
                   "found no name, reason, kinds or ours, expected all of them",
                   "",
                   {}};
    }
    out.push_back(std::move(rule));
  }
  if (out.size() > 30) {
    return Error{Code::invalid_config,
                 "differences rejected",
                 path,
                 "found " + std::to_string(out.size()) + " rules, expected at most 30",
                 "",
                 {}};
  }
  return out;
}

Rule* rule_for(std::vector<Rule>& rules, const std::string& kind, const Node& input,
               const Node& result, const Answer& ours, const std::string& difference) {
  const Node differs = Node::of_text(difference);
  for (Rule& rule : rules) {
    if (std::find(rule.kinds.begin(), rule.kinds.end(), kind) == rule.kinds.end()) continue;
    if (!rule.input.is_null() && !meets(&input, rule.input)) continue;
    if (!rule.result.is_null() && !meets(&result, rule.result)) continue;
    if (!rule.differs.is_null() && !meets(&differs, rule.differs)) continue;
    if (ours_is(ours, rule.ours)) return &rule;
  }
  return nullptr;
}

}  // namespace loadstone::oracle
