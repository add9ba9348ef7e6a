#include <list>

#include "base/text.hpp"
#include "plugin/foreign.hpp"
#include "plugin/library.hpp"
#include "plugin/sinks.hpp"

namespace loadstone::plugin {

namespace {

Code code_of(int32_t status) {
  switch (status) {
    case LS_INVALID_ARGUMENT:
      return Code::invalid_argument;
    case LS_INVALID_CONFIG:
      return Code::invalid_config;
    case LS_INVALID_CHECKPOINT:
      return Code::invalid_checkpoint;
    case LS_UNSUPPORTED:
      return Code::unsupported;
    case LS_RESOURCE:
      return Code::resource;
    case LS_CANCELLED:
      return Code::cancelled;
    default:
      return Code::internal;
  }
}

config::Field field_of(const ls_field& from) {
  config::Field out;
  out.name = foreign_text(from.name);
  out.type = static_cast<config::FieldType>(from.type);
  out.doc = foreign_text(from.doc);
  if (from.fallback != nullptr) {
    auto value = parse_json(foreign_text(from.fallback), "default");
    if (value.ok()) out.fallback = std::move(value).value();  // checked when the library opened
  }
  for (uint64_t i = 0; i < from.choice_count; ++i) {
    out.choices.emplace_back(foreign_text(from.choices[i]));
  }
  if (from.low != 0 || from.high != 0) {
    out.low = from.low;
    out.high = from.high;
  }
  out.declared_only = from.declared_only != 0;
  out.user_wins = from.user_wins != 0;
  return out;
}

/// ls_values of a choice and everything they point to.
class Values {
 public:
  Status add(const config::Field& field, const Node& node) {
    ls_value value{};
    value.struct_size = sizeof value;
    value.type = static_cast<uint32_t>(field.type);
    value.name = keep(field.name);
    LS_CHECK(fill(field, node, value));
    values_.push_back(value);
    return {};
  }

  std::vector<const ls_value*> pointers() const {
    std::vector<const ls_value*> out;
    for (const ls_value& value : values_) out.push_back(&value);
    return out;
  }

 private:
  const char* keep(std::string text) { return texts_.emplace_back(std::move(text)).c_str(); }

  Status fill(const config::Field& field, const Node& node, ls_value& value) {
    const auto wrong = [&](const char* expected) {
      return Error{Code::invalid_config, "field rejected", node.mark().text(),
                   field.name + ": found " + node.describe() + ", expected " + expected, ""};
    };
    switch (field.type) {
      case config::FieldType::boolean:
        if (!node.is_bool()) return wrong("true or false");
        value.integer = node.boolean() ? 1 : 0;
        return {};
      case config::FieldType::integer:
        if (!node.is_integer()) return wrong("an integer");
        value.integer = node.integer();
        return {};
      case config::FieldType::number:
        if (!node.is_numeric()) return wrong("a number");
        value.number = node.number();
        return {};
      case config::FieldType::text:
        if (!node.is_text()) return wrong("a text");
        value.text = keep(node.text());
        return {};
      case config::FieldType::integers:
        return fill_list(node, value, &Node::is_integer, wrong);
      case config::FieldType::texts:
        return fill_list(node, value, &Node::is_text, wrong);
      case config::FieldType::tree:
        value.text = keep(node.to_json());
        return {};
    }
    return wrong("a known type");
  }

  template <typename Wrong>
  Status fill_list(const Node& node, ls_value& value, bool (Node::*is_item)() const,
                   const Wrong& wrong) {
    if (!node.is_list()) return wrong("a list");
    std::vector<int64_t> integers;
    std::vector<const char*> texts;
    for (const Node& item : node.items()) {
      if (!(item.*is_item)()) return wrong("a list of one type");
      if (item.is_integer()) {
        integers.push_back(item.integer());
      } else {
        texts.push_back(keep(item.text()));
      }
    }
    value.count = node.items().size();
    if (!integers.empty()) value.integers = integers_.emplace_back(std::move(integers)).data();
    if (!texts.empty()) value.texts = arrays_.emplace_back(std::move(texts)).data();
    return {};
  }

  // Lists: addresses must hold.
  std::list<ls_value> values_;
  std::list<std::string> texts_;
  std::list<std::vector<int64_t>> integers_;
  std::list<std::vector<const char*>> arrays_;
};

}  // namespace

Method::Method(const ls_method* table, std::shared_ptr<Library> library)
    : owned_(std::make_shared<const ls_method>(read_foreign(table).value_or(ls_method{}))),
      table_(owned_.get()),
      library_(std::move(library)) {}

const std::string& Method::plugin() const { return library_->manifest().name; }

config::MethodSchema Method::schema() const {
  config::MethodSchema out;
  out.method = name();
  out.plugin = plugin();
  for (uint64_t i = 0; i < table_->alias_count; ++i) {
    out.aliases.emplace_back(foreign_text(table_->aliases[i]));
  }
  for (uint64_t i = 0; i < table_->field_count; ++i) {
    if (const auto field = read_foreign(table_->fields[i])) out.fields.push_back(field_of(*field));
  }
  return out;
}

Status check_call(int32_t status, const Method& method, std::string_view call,
                  std::string_view where) {
  std::string text = take_failure();
  if (status == LS_OK) return {};
  if (status < LS_OK || status > LS_INTERNAL) {
    text = "found unknown status " + std::to_string(status) + (text.empty() ? "" : ": " + text);
  }
  if (text.empty()) text = "no reason given";
  return Error{code_of(status), std::string(method.name()) + " " + std::string(call) + " failed",
               escaped(where), std::move(text), ""};
}

MethodConfig::MethodConfig(Method method, config::MethodChoice choice)
    : method_(std::move(method)), choice_(std::move(choice)) {}

MethodConfig::~MethodConfig() {
  if (handle_ != nullptr) method_.table().config_destroy(handle_);
}

Result<std::shared_ptr<const MethodConfig>> MethodConfig::make(const Method& method,
                                                               const config::MethodChoice& choice) {
  Values values;
  for (const config::Field& field : method.schema().fields) {
    const auto given = choice.fields.find(field.name);
    const Node& node = given == choice.fields.end() ? field.fallback : given->second.value;
    if (!node.is_null()) LS_CHECK(values.add(field, node));
  }
  std::shared_ptr<MethodConfig> out(new MethodConfig(method, choice));
  const auto pointers = values.pointers();
  const int32_t status = call_plugin(
      [&] { return method.table().configure(pointers.data(), pointers.size(), &out->handle_); });
  LS_CHECK(check_call(status, method, "configure", choice.mark.text()));
  if (out->handle_ == nullptr) {
    return Error{Code::internal, std::string(method.name()) + " configure failed",
                 choice.mark.text(), "found no config and no error", ""};
  }
  return std::shared_ptr<const MethodConfig>(std::move(out));
}

}  // namespace loadstone::plugin
