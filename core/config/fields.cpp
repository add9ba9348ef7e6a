#include <cmath>

#include "base/text.hpp"
#include "config/choice.hpp"

namespace loadstone::config {
namespace {

std::string number_text(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15
             ? std::to_string(static_cast<int64_t>(value))
             : Node::of_number(value).describe();
}

/// What a field takes, for error texts.
std::string expected(const Field& field, bool item) {
  if (!field.choices.empty()) {
    std::vector<std::string> names;
    for (const std::string& choice : field.choices) names.push_back(quoted(choice));
    return join(names);
  }
  std::string range;
  if (field.low && field.high) {
    range = " from " + number_text(*field.low) + " to " + number_text(*field.high);
  } else if (field.low) {
    range = " of at least " + number_text(*field.low);
  } else if (field.high) {
    range = " of at most " + number_text(*field.high);
  }
  switch (field.type) {
    case FieldType::boolean:
      return "true or false";
    case FieldType::integer:
      return "a decimal integer" + range;
    case FieldType::number:
      return "a finite number" + range;
    case FieldType::text:
      return "a text";
    case FieldType::integers:
      return (item ? "a decimal integer" : "a list of integers") + range;
    case FieldType::texts:
      return item ? "a text" : "a list of texts";
    case FieldType::tree:
      return "a map";
  }
  return "a value";
}

bool in_range(const Field& field, double value) {
  return (!field.low || value >= *field.low) && (!field.high || value <= *field.high);
}

void reject(const Field& field, const Node& value, bool item, Problems& problems) {
  std::string hint;
  if (const std::string* text = name_text(value)) {
    hint = nearest(*text, field.choices);
    if (!hint.empty()) hint = quoted(hint);
  }
  problems.add("value of " + quoted(field.name) + " rejected", value.mark(),
               "found " + value.describe() + ", expected " + expected(field, item),
               std::move(hint));
}

/// A scalar as the field's item type, or null on a problem.
std::optional<Node> read_scalar(const Field& field, const Node& value, bool item,
                                Problems& problems) {
  std::optional<Node> out;
  switch (field.type) {
    case FieldType::boolean:
      if (value.is_bool()) out = value;
      break;
    case FieldType::integer:
    case FieldType::integers:
      if (value.is_integer() && in_range(field, static_cast<double>(value.integer()))) out = value;
      break;
    case FieldType::number:
      if (value.is_numeric() && in_range(field, value.number())) {
        out = Node::of_number(value.number(), value.mark());
      }
      break;
    case FieldType::text:
    case FieldType::texts:
      if (const std::string* text = name_text(value)) {
        bool known = field.choices.empty();
        for (const std::string& choice : field.choices) known = known || choice == *text;
        if (known) out = Node::of_text(*text, value.mark());
      }
      break;
    case FieldType::tree:
      out = value;
      break;
  }
  if (!out) reject(field, value, item, problems);
  return out;
}

}  // namespace

const std::string* name_text(const Node& node) {
  if (!node.is_text() && node.raw().empty()) return nullptr;  // a list or map has none
  return &node.raw();
}

std::optional<Node> read_field(const Field& field, const Node& value, Problems& problems) {
  if (value.is_null()) return field.fallback;
  if (field.type != FieldType::integers && field.type != FieldType::texts) {
    return read_scalar(field, value, false, problems);
  }
  if (!value.is_list()) {
    reject(field, value, false, problems);
    return std::nullopt;
  }
  std::vector<Node> items;
  for (const Node& item : value.items()) {
    if (auto read = read_scalar(field, item, true, problems)) items.push_back(std::move(*read));
  }
  return Node::of_list(std::move(items), value.mark());
}

std::optional<OnUnsupported> read_on_unsupported(const Node& value, Problems& problems) {
  Field field;
  field.name = "on_unsupported";
  field.choices = {"error", "keep"};
  const Node read = read_field(field, value, problems).value_or(Node());
  if (read.is_null()) return std::nullopt;
  return read.text() == "keep" ? OnUnsupported::keep : OnUnsupported::error;
}

bool read_flag(std::string_view key, const Node& value, Problems& problems) {
  Field field;
  field.name = std::string(key);
  field.type = FieldType::boolean;
  return read_field(field, value, problems).value_or(Node()) == Node::of_bool(true);
}

}  // namespace loadstone::config
