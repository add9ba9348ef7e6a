// A method's fields and claims as data, the values of a configuration, and declarations.
#pragma once

#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

#include "host.hpp"

namespace loadstone::sdk {

// ---- schema: `static constexpr ls_field kFields[] = {integer_field(…), …};` -----------------

/// `fallback` is the default as JSON text ("32", "\"token\"", "[]"); null: may stay unset.
constexpr ls_field field(uint32_t type, const char* name, const char* doc,
                         const char* fallback = nullptr) {
  ls_field out{};
  out.struct_size = sizeof(ls_field);
  out.type = type;
  out.name = name;
  out.doc = doc;
  out.fallback = fallback;
  return out;
}

constexpr ls_field integer_field(const char* name, const char* doc, const char* fallback,
                                 double low = 0, double high = 0) {
  ls_field out = field(LS_FIELD_INTEGER, name, doc, fallback);
  out.low = low;
  out.high = high;
  return out;
}

template <size_t N>
constexpr ls_field choice_field(const char* name, const char* doc, const char* fallback,
                                const char* const (&choices)[N]) {
  ls_field out = field(LS_FIELD_TEXT, name, doc, fallback);
  out.choices = choices;
  out.choice_count = N;
  return out;
}

/// The field that the wrapper's default filter reads.
constexpr ls_field ignored_layers_field() {
  return field(LS_FIELD_TEXTS, "ignored_layers", "layers left unquantized", "[]");
}

/// A declaration of this origin; null matches anything.
constexpr ls_claim claim(const char* origin, const char* quant_method = nullptr,
                         const char* format = nullptr, const char* algorithm = nullptr) {
  ls_claim out{};
  out.struct_size = sizeof(ls_claim);
  out.origin = origin;
  out.quant_method = quant_method;
  out.format = format;
  out.algorithm = algorithm;
  return out;
}

// ---- values ------------------------------------------------------------------------------------

/// The fields of one configuration, defaults filled in, checked by the host against the schema.
class Values {
 public:
  Values(const ls_value* const* values, uint64_t count) {
    values_.reserve(count);
    for (uint64_t i = 0; i < count; ++i) values_.push_back(copy_in(values[i]));
  }

  bool has(std::string_view name) const { return find(name) != nullptr; }
  bool boolean(std::string_view name) const { return get(name, LS_FIELD_BOOL).integer != 0; }
  int64_t integer(std::string_view name) const { return get(name, LS_FIELD_INTEGER).integer; }
  double number(std::string_view name) const {
    const ls_value* value = find(name);
    if (value != nullptr && value->type == LS_FIELD_INTEGER) {
      return static_cast<double>(value->integer);
    }
    return get(name, LS_FIELD_NUMBER).number;
  }
  /// Lives as long as the call; a tree's is one JSON document.
  std::string_view text(std::string_view name) const {
    const ls_value* value = find(name);
    if (value != nullptr && value->type == LS_FIELD_TREE) return value->text;
    return get(name, LS_FIELD_TEXT).text;
  }
  std::vector<int64_t> integers(std::string_view name) const {
    const ls_value& value = get(name, LS_FIELD_INTEGERS);
    return {value.integers, value.integers + value.count};
  }
  std::vector<std::string> texts(std::string_view name) const {
    const ls_value& value = get(name, LS_FIELD_TEXTS);
    return {value.texts, value.texts + value.count};
  }
  std::span<const ls_value> all() const { return values_; }

 private:
  const ls_value* find(std::string_view name) const {
    for (const ls_value& value : values_) {
      if (name == value.name) return &value;
    }
    return nullptr;
  }
  const ls_value& get(std::string_view name, uint32_t type) const {
    const ls_value* value = find(name);
    if (value == nullptr || value->type != type) {
      fail(LS_INVALID_CONFIG, "field " + std::string(name) + ": found " +
                                  (value == nullptr ? "nothing" : "another type") +
                                  ", expected a value of type " + std::to_string(type));
    }
    return *value;
  }

  std::vector<ls_value> values_;
};

// ---- declarations ------------------------------------------------------------------------------

/// A node of a checkpoint's declaration. Absent nodes are allowed and empty.
class Node {
 public:
  explicit Node(const ls_node* node) : node_(node) {}
  explicit operator bool() const { return node_ != nullptr; }

  uint32_t kind() const { return node_ == nullptr ? 0 : host().node_kind(node_); }
  bool is_map() const { return kind() == LS_FIELD_TREE; }
  bool is_list() const { return kind() == LS_FIELD_TEXTS; }
  uint64_t size() const { return node_ == nullptr ? 0 : host().node_count(node_); }
  Node get(const char* key) const { return Node(is_map() ? host().node_get(node_, key) : nullptr); }
  Node at(uint64_t index) const { return Node(host().node_at(node_, index, nullptr)); }
  /// Item of a map with its key.
  std::pair<std::string_view, Node> entry(uint64_t index) const {
    const char* key = nullptr;
    const Node value(host().node_at(node_, index, &key));
    return {key == nullptr ? "" : key, value};
  }
  /// A scalar as text, a list or map as JSON; "" for null.
  std::string_view text() const {
    const char* value = node_ == nullptr ? nullptr : host().node_text(node_);
    return value == nullptr ? "" : value;
  }

 private:
  const ls_node* node_;
};

/// What read_declaration tells the host. `pattern` null: all layers.
class Declaration {
 public:
  explicit Declaration(ls_sink* sink) : sink_(sink) {}

  void field(const ls_value& value, const char* pattern = nullptr,
             uint32_t style = LS_STYLE_EXACT) {
    check_host(host().declare_field(sink_, pattern, style, &value), "declare_field");
  }
  void integer(const char* name, int64_t number, const char* pattern = nullptr,
               uint32_t style = LS_STYLE_EXACT) {
    ls_value value = named(name, LS_FIELD_INTEGER);
    value.integer = number;
    field(value, pattern, style);
  }
  void boolean(const char* name, bool on, const char* pattern = nullptr,
               uint32_t style = LS_STYLE_EXACT) {
    ls_value value = named(name, LS_FIELD_BOOL);
    value.integer = on ? 1 : 0;
    field(value, pattern, style);
  }
  void number(const char* name, double number, const char* pattern = nullptr,
              uint32_t style = LS_STYLE_EXACT) {
    ls_value value = named(name, LS_FIELD_NUMBER);
    value.number = number;
    field(value, pattern, style);
  }
  void text(const char* name, std::string_view content, const char* pattern = nullptr,
            uint32_t style = LS_STYLE_EXACT) {
    const std::string copy(content);
    ls_value value = named(name, LS_FIELD_TEXT);
    value.text = copy.c_str();
    field(value, pattern, style);
  }
  void tree(const char* name, std::string_view json, const char* pattern = nullptr,
            uint32_t style = LS_STYLE_EXACT) {
    const std::string copy(json);
    ls_value value = named(name, LS_FIELD_TREE);
    value.text = copy.c_str();
    field(value, pattern, style);
  }
  void integers(const char* name, std::span<const int64_t> items, const char* pattern = nullptr,
                uint32_t style = LS_STYLE_EXACT) {
    ls_value value = named(name, LS_FIELD_INTEGERS);
    value.integers = items.data();
    value.count = items.size();
    field(value, pattern, style);
  }
  void texts(const char* name, std::span<const std::string> items, const char* pattern = nullptr,
             uint32_t style = LS_STYLE_EXACT) {
    std::vector<const char*> pointers;
    for (const std::string& item : items) pointers.push_back(item.c_str());
    ls_value value = named(name, LS_FIELD_TEXTS);
    value.texts = pointers.data();
    value.count = pointers.size();
    field(value, pattern, style);
  }
  void keep(const char* pattern, uint32_t style) {
    check_host(host().declare_scope(sink_, pattern, style, LS_SCOPE_KEEP), "declare_scope");
  }
  void quantize(const char* pattern, uint32_t style) {
    check_host(host().declare_scope(sink_, pattern, style, LS_SCOPE_QUANTIZE), "declare_scope");
  }

 private:
  static ls_value named(const char* name, uint32_t type) {
    ls_value value = make<ls_value>();
    value.name = name;
    value.type = type;
    return value;
  }

  ls_sink* sink_;
};

namespace detail {

inline int64_t parse_integer(const std::string& text, std::string_view key) {
  size_t used = 0;
  int64_t value = 0;
  try {
    value = std::stoll(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size()) {
    fail(LS_INVALID_CHECKPOINT, "declaration rejected: " + std::string(key) + ": found \"" + text +
                                    "\", expected an integer");
  }
  return value;
}

inline void declare(Declaration& out, const ls_field& field, const Node& node) {
  const auto refuse = [&](const char* wanted) {
    fail(LS_INVALID_CHECKPOINT, "declaration rejected: " + std::string(field.name) + ": found " +
                                    std::string(node.text()) + ", expected " + wanted);
  };
  const bool is_list_field = field.type == LS_FIELD_TEXTS || field.type == LS_FIELD_INTEGERS;
  if (is_list_field && !node.is_list()) refuse("a list");
  std::vector<std::string> texts;
  std::vector<int64_t> integers;
  for (uint64_t i = 0; is_list_field && i < node.size(); ++i) {
    const std::string item(node.at(i).text());
    if (field.type == LS_FIELD_TEXTS) {
      texts.push_back(item);
    } else {
      integers.push_back(parse_integer(item, field.name));
    }
  }
  switch (field.type) {
    case LS_FIELD_BOOL:
      if (node.kind() != LS_FIELD_BOOL) refuse("true or false");
      return out.boolean(field.name, node.text() == "true");
    case LS_FIELD_INTEGER:
      if (node.kind() != LS_FIELD_INTEGER) refuse("an integer");
      return out.integer(field.name, parse_integer(std::string(node.text()), field.name));
    case LS_FIELD_NUMBER:
      if (node.kind() != LS_FIELD_NUMBER && node.kind() != LS_FIELD_INTEGER) refuse("a number");
      return out.number(field.name, std::stod(std::string(node.text())));
    case LS_FIELD_TEXT:
      if (node.kind() != LS_FIELD_TEXT) refuse("a text");
      return out.text(field.name, node.text());
    case LS_FIELD_INTEGERS:
      return out.integers(field.name, integers);
    case LS_FIELD_TEXTS:
      return out.texts(field.name, texts);
    default:
      return out.tree(field.name, node.text());
  }
}

/// The default read_declaration: each key but the method's name is a field of that name.
inline void read_flat_declaration(const Node& node, std::span<const ls_field> fields,
                                  Declaration& out) {
  for (uint64_t i = 0; i < node.size(); ++i) {
    const auto [key, value] = node.entry(i);
    if (key == "quant_method" || key == "method" || !value || value.kind() == 0) continue;
    const ls_field* known = nullptr;
    for (const ls_field& field : fields) {
      if (key == field.name) known = &field;
    }
    if (known == nullptr) {
      fail(LS_INVALID_CHECKPOINT,
           "declaration rejected: found unknown key \"" + std::string(key) + "\"");
    }
    declare(out, *known, value);
  }
}

inline void append_json_text(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      static const char* kHex = "0123456789abcdef";
      out += "\\u00";
      out += kHex[(c >> 4) & 1];
      out += kHex[c & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

inline void append_json(std::string& out, const ls_value& value) {
  char number[40];
  switch (value.type) {
    case LS_FIELD_BOOL:
      out += value.integer != 0 ? "true" : "false";
      return;
    case LS_FIELD_INTEGER:
      out += std::to_string(value.integer);
      return;
    case LS_FIELD_NUMBER:
      std::snprintf(number, sizeof number, "%.17g", value.number);
      out += number;
      return;
    case LS_FIELD_TREE:
      out += value.text;
      return;
    case LS_FIELD_TEXT:
      append_json_text(out, value.text);
      return;
    default:
      break;
  }
  out += '[';
  for (uint64_t i = 0; i < value.count; ++i) {
    if (i != 0) out += ',';
    if (value.type == LS_FIELD_INTEGERS) {
      out += std::to_string(value.integers[i]);
    } else {
      append_json_text(out, value.texts[i]);
    }
  }
  out += ']';
}

/// The default declaration of a saved model: the method's name and its fields.
inline std::string declaration_json(const char* method, const Values& values) {
  std::string out = "{\"quant_method\":";
  append_json_text(out, method);
  for (const ls_value& value : values.all()) {
    out += ',';
    append_json_text(out, value.name);
    out += ':';
    append_json(out, value);
  }
  return out + '}';
}

}  // namespace detail

}  // namespace loadstone::sdk
