// One typed tree for everything that is configuration: YAML, JSON files, declarations inside
// checkpoints, adapter files. Each node knows where it stands, so that errors can say so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace loadstone {

/// A place in a text: file as the user named it ("" for a string given on the command line),
/// line and column from 1 (0: unknown).
struct Mark {
  std::shared_ptr<const std::string> file;
  uint32_t line = 0;
  uint32_t column = 0;

  /// "pipeline.yaml:7:5", "config.json" or "" as far as known.
  std::string text() const;
};

/// Null, bool, integer (int64), number (double), text, list or map. Maps keep file order and have
/// no duplicate keys. A value type; copying copies the subtree.
class Node {
 public:
  enum class Kind : uint8_t { null, boolean, integer, number, text, list, map };
  using Entry = std::pair<std::string, Node>;

  Node() = default;
  static Node of_bool(bool value, Mark mark = {});
  static Node of_integer(int64_t value, Mark mark = {});
  static Node of_number(double value, Mark mark = {});
  static Node of_text(std::string value, Mark mark = {});
  static Node of_list(std::vector<Node> items, Mark mark = {});
  static Node of_map(std::vector<Entry> entries, Mark mark = {});

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }
  bool is_bool() const { return kind_ == Kind::boolean; }
  bool is_integer() const { return kind_ == Kind::integer; }
  /// Integer or number.
  bool is_numeric() const { return kind_ == Kind::integer || kind_ == Kind::number; }
  bool is_text() const { return kind_ == Kind::text; }
  bool is_list() const { return kind_ == Kind::list; }
  bool is_map() const { return kind_ == Kind::map; }

  // Each accessor requires its kind (assert): ask first.
  bool boolean() const;
  int64_t integer() const;
  double number() const;  // integers widen
  const std::string& text() const;
  /// The characters as the text had them, for fields that take any word as a name ("010", "no",
  /// "~"): kept by the YAML reader for plain scalars, equal to text() for texts, else "".
  const std::string& raw() const { return text_; }
  void set_raw(std::string raw) { text_ = std::move(raw); }
  const std::vector<Node>& items() const;
  const std::vector<Entry>& entries() const;
  std::vector<Node>& items();
  std::vector<Entry>& entries();

  /// The value under `key` of a map, or null when absent or when this is no map.
  const Node* find(std::string_view key) const;
  /// The mark of the key itself, for errors about unknown keys (the value's mark otherwise).
  const Mark& mark() const { return mark_; }
  void set_mark(Mark mark) { mark_ = std::move(mark); }
  const Mark& key_mark() const { return key_mark_; }
  void set_key_mark(Mark mark) { key_mark_ = std::move(mark); }

  /// Short rendering for error texts: `"fp8"`, `12`, `a list of 3`, `a map of 2 keys`, `null`.
  std::string describe() const;
  /// JSON text; `indent` < 0 gives one line. Non-finite numbers become strings ("inf").
  std::string to_json(int indent = -1) const;

  /// Content equality; marks don't count.
  bool operator==(const Node& other) const;

 private:
  Kind kind_ = Kind::null;
  bool boolean_ = false;
  int64_t integer_ = 0;
  double number_ = 0;
  std::string text_;
  std::vector<Node> items_;
  std::vector<Entry> entries_;
  Mark mark_;
  Mark key_mark_;
};

std::string_view to_string(Node::Kind kind);

struct JsonLimits {
  uint64_t max_nbytes = 64u << 20;
  uint32_t max_depth = 32;
  uint64_t max_nodes = 4'000'000;
};

/// Parses one JSON document (UTF-8, no BOM) with simdjson. Refuses duplicate keys, depth, trailing
/// bytes, numbers outside int64/double. `file` is how errors name the text.
Result<Node> parse_json(std::string_view text, std::string file, const JsonLimits& limits = {});

}  // namespace loadstone
