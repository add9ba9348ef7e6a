#include "base/tree.hpp"

#include <fmt/format.h>

#include <cassert>
#include <climits>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace loadstone {

std::string Mark::text() const {
  std::string out = file ? escaped(*file, PATH_MAX) : std::string();
  if (line != 0) out += fmt::format("{}{}:{}", out.empty() ? "" : ":", line, column);
  return out;
}

Node Node::of_bool(bool value, Mark mark) {
  Node node;
  node.kind_ = Kind::boolean;
  node.boolean_ = value;
  node.mark_ = std::move(mark);
  return node;
}

Node Node::of_integer(int64_t value, Mark mark) {
  Node node;
  node.kind_ = Kind::integer;
  node.integer_ = value;
  node.mark_ = std::move(mark);
  return node;
}

Node Node::of_number(double value, Mark mark) {
  Node node;
  node.kind_ = Kind::number;
  node.number_ = value;
  node.mark_ = std::move(mark);
  return node;
}

Node Node::of_text(std::string value, Mark mark) {
  Node node;
  node.kind_ = Kind::text;
  node.text_ = std::move(value);
  node.mark_ = std::move(mark);
  return node;
}

Node Node::of_list(std::vector<Node> items, Mark mark) {
  Node node;
  node.kind_ = Kind::list;
  node.items_ = std::move(items);
  node.mark_ = std::move(mark);
  return node;
}

Node Node::of_map(std::vector<Entry> entries, Mark mark) {
  Node node;
  node.kind_ = Kind::map;
  node.entries_ = std::move(entries);
  node.mark_ = std::move(mark);
  return node;
}

bool Node::boolean() const {
  assert(is_bool());
  return boolean_;
}

int64_t Node::integer() const {
  assert(is_integer());
  return integer_;
}

double Node::number() const {
  assert(is_numeric());
  return is_integer() ? static_cast<double>(integer_) : number_;
}

const std::string& Node::text() const {
  assert(is_text());
  return text_;
}

const std::vector<Node>& Node::items() const {
  assert(is_list());
  return items_;
}

std::vector<Node>& Node::items() {
  assert(is_list());
  return items_;
}

const std::vector<Node::Entry>& Node::entries() const {
  assert(is_map());
  return entries_;
}

std::vector<Node::Entry>& Node::entries() {
  assert(is_map());
  return entries_;
}

const Node* Node::find(std::string_view key) const {
  if (!is_map()) return nullptr;
  for (const Entry& entry : entries_) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

bool Node::operator==(const Node& other) const {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::null:
      return true;
    case Kind::boolean:
      return boolean_ == other.boolean_;
    case Kind::integer:
      return integer_ == other.integer_;
    case Kind::number:
      return number_ == other.number_;
    case Kind::text:
      return text_ == other.text_;
    case Kind::list:
      return items_ == other.items_;
    case Kind::map:
      return entries_ == other.entries_;
  }
  return false;
}

namespace {

using nlohmann::json;

// Invalid UTF-8 (possible in tensor names of other formats) becomes U+FFFD.
std::string json_scalar(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string json_number(double value) {
  if (std::isnan(value)) return "\"nan\"";
  if (std::isinf(value)) return value > 0 ? "\"inf\"" : "\"-inf\"";
  return json_scalar(value);
}

// Depth is that of the tree, which every parser bounds.
class JsonWriter {
 public:
  explicit JsonWriter(int indent) : indent_(indent) {}

  void write(const Node& node, int depth) {
    switch (node.kind()) {
      case Node::Kind::null:
        out_ += "null";
        return;
      case Node::Kind::boolean:
        out_ += node.boolean() ? "true" : "false";
        return;
      case Node::Kind::integer:
        out_ += std::to_string(node.integer());
        return;
      case Node::Kind::number:
        out_ += json_number(node.number());
        return;
      case Node::Kind::text:
        out_ += json_scalar(node.text());
        return;
      case Node::Kind::list:
        write_list(node, depth);
        return;
      case Node::Kind::map:
        write_map(node, depth);
        return;
    }
  }

  std::string take() && { return std::move(out_); }

 private:
  void write_list(const Node& node, int depth) {
    out_ += '[';
    bool first = true;
    for (const Node& item : node.items()) {
      separate(first, depth + 1);
      write(item, depth + 1);
    }
    close(']', first, depth);
  }

  void write_map(const Node& node, int depth) {
    out_ += '{';
    bool first = true;
    for (const auto& [key, value] : node.entries()) {
      separate(first, depth + 1);
      out_ += json_scalar(key);
      out_ += indent_ < 0 ? ":" : ": ";
      write(value, depth + 1);
    }
    close('}', first, depth);
  }

  void separate(bool& first, int depth) {
    if (!first) out_ += ',';
    first = false;
    break_line(depth);
  }

  void close(char bracket, bool empty, int depth) {
    if (!empty) break_line(depth);
    out_ += bracket;
  }

  void break_line(int depth) {
    if (indent_ < 0) return;
    out_ += '\n';
    out_.append(static_cast<size_t>(indent_) * static_cast<size_t>(depth), ' ');
  }

  int indent_;
  std::string out_;
};

}  // namespace

std::string Node::describe() const {
  constexpr size_t kShown = 80;
  switch (kind_) {
    case Kind::list:
      return fmt::format("a list of {}", items_.size());
    case Kind::map:
      return fmt::format("a map of {} key{}", entries_.size(), entries_.size() == 1 ? "" : "s");
    case Kind::text:
      return quoted(text_, kShown);
    case Kind::null:
    case Kind::boolean:
    case Kind::integer:
    case Kind::number:
      return to_json();
  }
  return {};
}

std::string Node::to_json(int indent) const {
  JsonWriter writer(indent);
  writer.write(*this, 0);
  return std::move(writer).take();
}

std::string_view to_string(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::null:
      return "null";
    case Node::Kind::boolean:
      return "boolean";
    case Node::Kind::integer:
      return "integer";
    case Node::Kind::number:
      return "number";
    case Node::Kind::text:
      return "text";
    case Node::Kind::list:
      return "list";
    case Node::Kind::map:
      return "map";
  }
  return "null";
}

}  // namespace loadstone
