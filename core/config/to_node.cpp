// QuantConfig as the tree that `config check` prints.
#include "config/quant_config.hpp"

namespace loadstone::config {
namespace {

Node text_or_null(const std::optional<std::string>& text) {
  return text ? Node::of_text(*text) : Node();
}

Node choice_node(const Choice& choice) {
  if (!choice) return Node();
  std::vector<Node::Entry> fields;
  for (const auto& [name, field] : choice->fields) {
    fields.emplace_back(
        name, Node::of_map({{"value", field.value},
                            {"from", Node::of_text(std::string(to_string(field.from)))}}));
  }
  return Node::of_map(
      {{"method", Node::of_text(choice->method)}, {"fields", Node::of_map(std::move(fields))}});
}

Node rule_node(const Rule& rule) {
  std::vector<Node::Entry> out;
  auto put = [&](std::string key, Node value) {
    if (!value.is_null()) out.emplace_back(std::move(key), std::move(value));
  };
  auto count = [](const std::optional<uint64_t>& n) {
    return n ? Node::of_integer(static_cast<int64_t>(*n)) : Node();
  };
  put("component", text_or_null(rule.component));
  put("layer", text_or_null(rule.layer));
  put("role", text_or_null(rule.role));
  put("kind", text_or_null(rule.kind));
  put("dtype", text_or_null(rule.dtype));
  put("min_elements", count(rule.min_elements));
  put("max_elements", count(rule.max_elements));
  out.emplace_back("use", rule.use ? choice_node(rule.use) : Node::of_text("keep"));
  if (rule.allow_unmatched) out.emplace_back("allow_unmatched", Node::of_bool(true));
  if (rule.on_unsupported) {
    bool keep = *rule.on_unsupported == OnUnsupported::keep;
    out.emplace_back("on_unsupported", Node::of_text(keep ? "keep" : "error"));
  }
  return Node::of_map(std::move(out));
}

}  // namespace

Node QuantConfig::to_node() const {
  std::vector<Node::Entry> out;
  Node flat_node = choice_node(flat);
  const Node* fields = flat_node.find("fields");
  out.emplace_back("method", flat ? Node::of_text(flat->method) : Node());
  out.emplace_back("fields", fields ? *fields : Node::of_map({}));
  Node map;
  if (is_component_map) {
    std::vector<Node::Entry> entries;
    for (const auto& [name, choice] : components) entries.emplace_back(name, choice_node(choice));
    map = Node::of_map(std::move(entries));
  }
  out.emplace_back("components", std::move(map));
  if (explicitly_none) out.emplace_back("explicitly_none", Node::of_bool(true));
  if (!rules.empty()) {
    std::vector<Node> items;
    for (const Rule& rule : rules) items.push_back(rule_node(rule));
    out.emplace_back("rules", Node::of_list(std::move(items)));
  }
  return Node::of_map(std::move(out));
}

}  // namespace loadstone::config
